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

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple

from jobs.evaluate.sweep.ledger import AnswerEnd, ThinkingEnd
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Mark, Policy, Route

BranchPath = tuple[str, ...]
Kind = Literal["thinking", "forced", "natural", "closed", "step", "stop", "rule", "score", "read"]
ANSWERS = ("forced", "natural", "closed")


class Key(NamedTuple):
    """Names a piece of a unit's tree. Answers that leave a branch at the same cut in the same way are one piece."""

    path: BranchPath
    """The branch. An answer that was ``closed``, a ``stop``, a ``score`` and what was ``read`` for it have strings of
    their own after it, or alone."""
    kind: Kind
    """``thinking``, or the answer after a ``forced`` or a ``natural`` end, or after an end forced by another closing
    than the usual: ``closed``.

    ``step``, ``stop`` and ``rule``, on the trunk, are no pieces but marks. The extent of a step says where it begins,
    by its length. That of a stop says up to where its strings were looked for, and whether one is complete there.
    That of a rule says where it stopped thinking, once it did.
    ``score`` and ``read`` are marks on the nodes of a search (:mod:`jobs.evaluate.sweep.search`)."""
    cut: int = 0
    """Position at which an answer leaves the branch; steps before the one that begins, and stops of these strings
    before this one; 0 for thinking."""

    @property
    def branch(self) -> BranchPath:
        """The branch that an answer leaves, or that thinking is."""
        return self.path[:-1] if self.kind in ("closed", "score", "read") else self.path

    @property
    def closing(self) -> str | None:
        """What was appended where an answer was forced; None where thinking ended by itself."""
        if self.kind == "natural":
            return None
        return self.path[-1] if self.kind == "closed" else FINAL_ANSWER


def forced(path: BranchPath, closing: str, cut: int) -> Key:
    """The answer that is forced on a branch by `closing`."""
    return Key(path, "forced", cut) if closing == FINAL_ANSWER else Key((*path, closing), "closed", cut)


def key_of(mark: Mark) -> Key:
    """What a mark is known by."""
    return Key(mark.strings, mark.kind, mark.number)


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


class Limit(NamedTuple):
    """Where policies cut thinking, and what they do then: all that tells them apart on a branch."""

    cut: int | None
    """:attr:`Route.cut`."""
    closing: str | None
    mark: Mark | None

    @classmethod
    def of(cls, route: Route) -> Limit:
        return cls(route.cut, route.closing, route.mark)


@dataclass(frozen=True)
class Branch:
    """The policies that pass through a branch, by their limits and by what they do at its natural end."""

    path: BranchPath
    ending: tuple[Limit, ...]
    """Of the policies that take no further extension."""
    extending: tuple[tuple[str, tuple[Limit, ...]], ...]
    """Per string, of the policies that append it once more."""

    def limits(self) -> Iterator[Limit]:
        """All of them."""
        yield from self.ending
        for _, limits in self.extending:
            yield from limits


@dataclass(frozen=True)
class Tree:
    """The branches of a set of policies, and the lengths in tokens of their strings and of the header of a step."""

    branches: Mapping[BranchPath, Branch]
    injected: Mapping[str, int]
    header: int = 0
    longer: Mapping[str, int] = field(default_factory=dict)
    """By how many tokens a closing is longer than what a prompt's room has set aside for one; others are not."""

    @property
    def stops(self) -> tuple[Key, ...]:
        """What is looked for in the text of the trunk."""
        marks = {limit.mark: None for limit in self.branches[()].limits() if limit.mark and limit.mark.kind == "stop"}
        return tuple(key_of(mark) for mark in marks)


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


def grow(
    policies: Collection[Policy],
    injected: Mapping[str, int],
    header: int = 0,
    longer: Mapping[str, int] | None = None,
) -> Tree:
    """The tree of `policies`.

    `injected` maps every string in them to its number of tokens; `header` is that of a step's header; `longer` is
    :attr:`Tree.longer`.
    """
    ending: dict[BranchPath, dict[Limit, None]] = {(): {}}
    extending: dict[BranchPath, dict[str, dict[Limit, None]]] = {}
    for policy in policies:
        route = policy.route
        path: BranchPath = ()
        for string in route.strings:
            extending.setdefault(path, {}).setdefault(string, {})[Limit.of(route)] = None
            path = (*path, string)
        ending.setdefault(path, {})[Limit.of(route)] = None
    branches = {
        path: Branch(
            path,
            tuple(ending.get(path, ())),
            tuple((string, tuple(limits)) for string, limits in extending.get(path, {}).items()),
        )
        for path in {**ending, **extending}
    }
    return Tree(branches, dict(injected), header, dict(longer or {}))


def width(tree: Tree) -> int:
    """Requests of one unit that a replica should have room for at once: a branch for each string that goes on, as
    children of the same parent do, and an answer that is forked meanwhile."""
    return 1 + sum(not branch.extending for branch in tree.branches.values())


def cuts(tree: Tree, path: BranchPath, start: int, room: Room) -> list[int]:
    """Positions at which the branch `path` must be cut, ascending; the last is as far as it may be decoded.

    `start` is the position at which the branch begins: policies whose budget ends there never came so far. Where marks
    are shows only as they are decoded.
    """
    limits = tree.branches[path].limits()
    return sorted({cut for limit in limits if (cut := _within(limit, _capacity(tree, limit.closing, room))) > start})


def wanted(tree: Tree, room: Room, known: Known, path: BranchPath = (), start: int = 0) -> Iterator[Want]:
    """Every piece from the branch `path` on that is not yet known as far as needed, and can be decoded now; and the
    stops that were not yet looked for as far as the trunk is known.

    None from the trunk on means that the unit is complete.
    """
    branch = tree.branches[path]
    length, ended = known(Key(path, "thinking"))
    position = start + length
    cuts: dict[Limit, int] = {}
    answers: dict[Key, None] = {}
    unsettled: dict[Key, int] = {}
    furthest = 0
    for limit in branch.limits():
        capacity = _capacity(tree, limit.closing, room)
        if limit in cuts or capacity < 1:
            continue
        cap = _cap(tree, limit, capacity, known)
        furthest = max(furthest, cap.at)
        if limit.mark is not None and cap.looked < (upto := min(position, cap.at)):
            key = key_of(limit.mark)
            unsettled[key] = max(upto, unsettled.get(key, 0))
            continue
        cuts[limit] = cap.at
        if limit.closing is not None and start < cap.at <= position:
            answers[forced(path, limit.closing, cap.at)] = None
    if not ended and position < furthest:
        yield Want(Key(path, "thinking"), start, furthest - start)
    for stop, upto in unsettled.items():
        yield Want(stop, 0, upto)
    for key in sorted(answers, key=lambda key: key.cut):
        yield from _wanted_answer(key, start, room, known)
    if not ended:
        return
    stays = any(position < cuts.get(limit, 0) for limit in branch.ending) or any(
        position < cuts.get(limit, 0) <= position + tree.injected[string]
        for string, limits in branch.extending
        for limit in limits
    )
    if stays:
        yield from _wanted_answer(Key(path, "natural", position), start, room, known)
    for string, limits in branch.extending:
        after = position + tree.injected[string]
        if any(cuts.get(limit, 0) > after for limit in limits):
            yield from wanted(tree, room, known, (*path, string), after)


def leaf(tree: Tree, policy: Policy, room: Room, known: Known) -> Leaf:
    """The account of `policy`. Raises ValueError when its pieces are not all known."""
    route = policy.route
    capacity = _capacity(tree, route.closing, room)
    if capacity < 1:
        return Leaf(None, 0, 0, "context", 0, "context", 0, 0)
    cap = _cap(tree, Limit.of(route), capacity, known)
    path: BranchPath = ()
    start = injected = skipped = 0
    end: ThinkingEnd
    while True:
        length, ended = known(Key(path, "thinking"))
        position = start + length
        if cap.looked < min(position, cap.at):
            raise ValueError(f"{route.mark} was looked for in {cap.looked} of {min(position, cap.at)} tokens")
        if position >= cap.at:
            if route.closing is None:
                return Leaf(None, cap.at, 0, "rejected" if cap.came_first else "context", 0, "none", 0, 0)
            key, end = forced(path, route.closing, cap.at), "forced" if cap.came_first else "context"
            break
        if not ended:
            raise ValueError(f"thinking of branch {path} is known to {position} of {cap.at} tokens")
        key, end = Key(path, "natural", position), "natural"
        if len(path) == len(route.strings):
            break
        string = route.strings[len(path)]
        added = tree.injected[string]
        if position + added >= cap.at:
            skipped = 1
            break
        path, start, injected = (*path, string), position + added, injected + added
    length, ended = known(key)
    if not is_complete(length, ended, room):
        raise ValueError(f"the answer {key} is known to {length} tokens")
    answer_end: AnswerEnd = "stop" if length < room.answer else "length"
    return Leaf(key, key.cut, injected, end, min(length, room.answer), answer_end, len(path), skipped)


def _capacity(tree: Tree, closing: str | None, room: Room) -> int:
    """The thinking tokens for which there is room before `closing`."""
    return room.thinking - (0 if closing is None else tree.longer.get(closing, 0))


def _within(limit: Limit, capacity: int) -> int:
    """The position at which thinking is cut, marks apart."""
    return capacity if limit.cut is None else min(limit.cut, capacity)


class _Cap(NamedTuple):
    """Where thinking is cut, as far as that is known."""

    at: int
    came_first: bool
    """Whether the policy cuts it there, and not the context."""
    looked: float = inf
    """The tokens in which the policy's stop was looked for and is not."""


def _cap(tree: Tree, limit: Limit, capacity: int, known: Known) -> _Cap:
    at = _within(limit, capacity)
    cap = _Cap(at, at < capacity or limit.cut == at)
    if limit.mark is None:
        return cap
    length, found = known(key_of(limit.mark))
    if limit.mark.kind == "rule":
        return _Cap(length, True) if found and length <= at else cap
    if limit.mark.kind == "stop":
        if not found:
            return cap._replace(looked=length)
        return _Cap(length, True) if length <= at else cap
    # The header of one more step shows where it ends only: there must be room for it.
    return _Cap(length, True) if found and length + tree.header <= capacity and length < at else cap


def _wanted_answer(key: Key, start: int, room: Room, known: Known) -> Iterator[Want]:
    length, ended = known(key)
    if not is_complete(length, ended, room):
        yield Want(key, start, room.answer)


def is_complete(length: int, ended: bool, room: Room) -> bool:
    """Whether an answer is known as far as there is room for it."""
    return ended or length >= room.answer
