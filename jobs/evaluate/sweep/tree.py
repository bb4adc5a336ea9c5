"""What the policies of a sweep share: a tree of branches, each decoded once. Pure data and pure functions.

A *branch* is named by the extensions taken so far: ``()`` is the trunk, ``("Wait", "Wait")`` what follows two of them.
A *piece* is what one request decodes: the thinking of a branch, or the answer that leaves it at some cut. Under budget
forcing the trace cut at 512 tokens is a prefix of the one cut at 1,024, so a branch is decoded up to the largest budget
of any policy on it, and each smaller budget is an answer that leaves it on the way.

Everything here follows from how far each piece is known (its :class:`Extent`), never from token ids: the same functions
steer the walker, tell which stored units are incomplete, and account for each policy when all is known. A piece
is known by a prefix of itself, so what was cut short under an older sweep is continued, whatever its limits were.

Positions count thinking tokens from the prompt on, injected ones included. A natural end at position L means that the
token after L would have been a stop; a budget of L or less never gets to see it and is a *forced* end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jobs.evaluate.sweep.ledger import AnswerEnd, ThinkingEnd
from jobs.evaluate.sweep.policies import Policy, ordered

BranchPath = tuple[str, ...]
Kind = Literal["thinking", "forced", "natural", "step"]


class Key(NamedTuple):
    """Names a piece of a unit's tree. Answers that leave a branch at the same cut in the same way are one piece."""

    path: BranchPath
    kind: Kind
    """``thinking``, or the answer after a ``forced`` or a ``natural`` end.

    ``step``, on the trunk, is no piece but a mark: its extent says where a step of thinking begins, by its length."""
    cut: int = 0
    """Position at which an answer leaves the branch; steps before the one that begins; 0 for thinking."""


class Extent(NamedTuple):
    """How far a piece is known: its first `length` tokens, and whether a stop token follows them."""

    length: int
    ended: bool


UNKNOWN = Extent(0, False)
Known = Callable[[Key], Extent]


class Room(NamedTuple):
    """What the context leaves to one item, in tokens."""

    thinking: int
    """Context minus prompt, delimiters and answer; below 1, the prompt leaves no room at all."""
    answer: int
    """``max_answer_tokens``."""


class Want(NamedTuple):
    """A piece that can be decoded now, because all before it is known."""

    key: Key
    start: int
    """Position of the branch's first own token: thinking before it, with what was injected."""
    limit: int
    """Tokens at which decoding of the piece stops unless it ends by itself."""


@dataclass(frozen=True)
class Branch:
    """The policies that pass through a branch, by their budgets and by what they do at its natural end."""

    path: BranchPath
    ending: tuple[int | None, ...]
    """Budgets of the policies that take no further extension."""
    waiting: tuple[int | None, ...]
    """Cuts of the policies that answer only where thinking ends by itself."""
    extending: tuple[tuple[str, tuple[int | None, ...]], ...]
    """Per string, budgets of the policies that append it once more."""
    steps: tuple[int, ...] = ()
    """Step budgets of the policies that have one."""

    def forcing(self) -> Iterator[int | None]:
        """The budgets at which an answer is forced."""
        yield from self.ending
        for _, budgets in self.extending:
            yield from budgets


@dataclass(frozen=True)
class Tree:
    """The branches of a set of policies, and the lengths in tokens of their strings and of the header of a step."""

    branches: Mapping[BranchPath, Branch]
    injected: Mapping[str, int]
    header: int = 0


class Leaf(NamedTuple):
    """Where a policy ends up in a unit's tree: the piece that is its answer, and the account of how it got there."""

    answer: Key | None
    """None when the prompt left no room, and when thinking was cut and is not made to answer."""
    thinking_tokens: int
    injected_tokens: int
    thinking_end: ThinkingEnd
    answer_tokens: int
    answer_end: AnswerEnd
    extensions_used: int
    extensions_skipped: int


def grow(policies: Collection[Policy], injected: Mapping[str, int], header: int = 0) -> Tree:
    """The tree of `policies`.

    `injected` maps every string in them to its number of tokens; `header` is that of a step's header.
    """
    ending: dict[BranchPath, list[int | None]] = {}
    waiting: dict[BranchPath, list[int | None]] = {}
    extending: dict[BranchPath, dict[str, list[int | None]]] = {}
    for policy in policies:
        path: BranchPath = ()
        for _ in range(policy.count):
            assert policy.string is not None, "a count comes with a string"
            extending.setdefault(path, {}).setdefault(policy.string, []).append(policy.budget)
            path = (*path, policy.string)
        if policy.steps is None:
            (ending if policy.forced else waiting).setdefault(path, []).append(policy.cut)
    steps = sorted({policy.steps for policy in policies if policy.steps is not None})
    branches = {
        path: Branch(
            path,
            ordered(ending.get(path, ())),
            ordered(waiting.get(path, ())),
            tuple((string, ordered(budgets)) for string, budgets in extending.get(path, {}).items()),
            () if path else tuple(steps),
        )
        for path in {(): None, **ending, **waiting, **extending}
    }
    return Tree(branches, dict(injected), header)


def width(tree: Tree) -> int:
    """Requests of one unit that a replica should have room for at once: a branch for each string that goes on, as
    children of the same parent do, and an answer that is forked meanwhile."""
    return 1 + sum(not branch.extending for branch in tree.branches.values())


def cuts(branch: Branch, start: int, room: Room) -> list[int]:
    """Positions at which the branch must be cut, ascending; the last is as far as it may be decoded.

    `start` is the position at which the branch begins: policies whose budget ends there never came so far. Where steps
    begin shows only as they are decoded.
    """
    budgets = (*branch.forcing(), *branch.waiting, *(None for _ in branch.steps))
    return sorted({cut for budget in budgets if (cut := _cap(budget, room)) > start})


def wanted(tree: Tree, room: Room, known: Known, path: BranchPath = (), start: int = 0) -> Iterator[Want]:
    """Every piece from the branch `path` on that is not yet known as far as needed, and can be decoded now.

    None from the trunk on means that the unit is complete.
    """
    if room.thinking < 1:
        return
    branch = tree.branches[path]
    thinking = Key(path, "thinking")
    length, ended = known(thinking)
    position = start + length
    after_steps = [_after_steps(tree, steps, room, known) for steps in branch.steps]
    forced = sorted({_cap(budget, room) for budget in branch.forcing()}.union(after_steps))
    furthest = max((*forced, *(_cap(budget, room) for budget in branch.waiting)))
    if not ended and position < furthest:
        yield Want(thinking, start, furthest - start)
    for cut in forced:
        if start < cut <= position:
            yield from _wanted_answer(Key(path, "forced", cut), start, room, known)
    if not ended:
        return
    stays = any(_stays(tree, budgets, string, position, room) for string, budgets in _exits(branch))
    if stays or any(position < cut for cut in after_steps):
        yield from _wanted_answer(Key(path, "natural", position), start, room, known)
    for string, budgets in branch.extending:
        after = position + tree.injected[string]
        if any(_cap(budget, room) > after for budget in budgets):
            yield from wanted(tree, room, known, (*path, string), after)


def leaf(tree: Tree, policy: Policy, room: Room, known: Known) -> Leaf:
    """The account of `policy`. Raises ValueError when its pieces are not all known."""
    if room.thinking < 1:
        return Leaf(None, 0, 0, "context", 0, "context", 0, 0)
    cap = _cap(policy.cut, room) if policy.steps is None else _after_steps(tree, policy.steps, room, known)
    path: BranchPath = ()
    start = injected = skipped = 0
    end: ThinkingEnd
    while True:
        length, ended = known(Key(path, "thinking"))
        position = start + length
        if position >= cap:
            budget_came_first = cap < room.thinking or policy.cut == cap
            if not policy.forced:
                return Leaf(None, cap, 0, "rejected" if budget_came_first else "context", 0, "none", 0, 0)
            key, end = Key(path, "forced", cap), "forced" if budget_came_first else "context"
            break
        if not ended:
            raise ValueError(f"thinking of branch {path} is known to {position} of {cap} tokens")
        key, end = Key(path, "natural", position), "natural"
        if len(path) == policy.count:
            break
        assert policy.string is not None, "a count comes with a string"
        added = tree.injected[policy.string]
        if position + added >= cap:
            skipped = 1
            break
        path, start, injected = (*path, policy.string), position + added, injected + added
    length, ended = known(key)
    if not _is_complete(length, ended, room):
        raise ValueError(f"the answer {key} is known to {length} tokens")
    answer_end: AnswerEnd = "stop" if length < room.answer else "length"
    return Leaf(key, key.cut, injected, end, min(length, room.answer), answer_end, len(path), skipped)


def _cap(budget: int | None, room: Room) -> int:
    """The position at which thinking within `budget` is cut."""
    return room.thinking if budget is None else min(budget, room.thinking)


def _after_steps(tree: Tree, steps: int, room: Room, known: Known) -> int:
    """The position at which thinking of so many steps is cut, as far as that is known.

    The header of one more shows where it ends only: there must be room for it.
    """
    begins, ended = known(Key((), "step", steps))
    return begins if ended and begins + tree.header <= room.thinking else room.thinking


def _exits(branch: Branch) -> Iterator[tuple[str | None, tuple[int | None, ...]]]:
    """What policies do at the branch's natural end: the string they append (None: they end), and their budgets."""
    yield None, (*branch.ending, *branch.waiting)
    yield from branch.extending


def _stays(tree: Tree, budgets: Iterable[int | None], string: str | None, position: int, room: Room) -> bool:
    """Whether some policy answers at the natural end: it takes no extension, or has no room for one more token."""
    for budget in budgets:
        cap = _cap(budget, room)
        if position < cap and (string is None or position + tree.injected[string] >= cap):
            return True
    return False


def _wanted_answer(key: Key, start: int, room: Room, known: Known) -> Iterator[Want]:
    length, ended = known(key)
    if not _is_complete(length, ended, room):
        yield Want(key, start, room.answer)


def _is_complete(length: int, ended: bool, room: Room) -> bool:
    return ended or length >= room.answer
