"""What a sweep would decode: what each of its policies needs by itself, and what they need together, each token once.

Counted on the sweep's own tree, with lengths that are assumed (:mod:`jobs.evaluate.planning.lengths`), by the function
that accounts for policies once the lengths are known. Pure arithmetic: a plan has it before anything is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

from jobs.evaluate.planning.lengths import DRAWS, ENDLESS, draws, trace
from jobs.evaluate.sweep.grown import Grown
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Forest, as_bits
from jobs.evaluate.sweep.steps import Steps
from jobs.evaluate.sweep.tree import ANSWERS, BranchPath, Extent, Key, Known, Leaf, Room, Tree, leaf
from jobs.forecasts import ThinkingForecast


@dataclass(frozen=True)
class Tokens:
    """Work of an engine. Means over items are fractions."""

    decoded: float = 0.0
    read: float = 0.0
    """Tokens whose keys and values attention reads: for each decoded token, all that are before it."""
    prompts: float = 0.0
    """Tokens of prompts."""
    scored: float = 0.0
    """Tokens of prompts that a scorer is asked with."""
    fresh: float = 0.0
    """Those of them that it was not asked with before."""
    scores: float = 0.0
    """Prompts that it is asked with."""

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*(getattr(self, name) + getattr(other, name) for name in _COUNTS))

    def times(self, factor: float) -> Tokens:
        return Tokens(*(getattr(self, name) * factor for name in _COUNTS))

    @classmethod
    def stretch(cls, start: float, length: float) -> Tokens:
        """`length` tokens, decoded after `start` others."""
        return cls(length, length * (start + length / 2))


_COUNTS = tuple(each.name for each in fields(Tokens))


@dataclass(frozen=True)
class Workload:
    """The decoding of a sweep, or of a part of it."""

    alone: Mapping[str, Tokens] = field(default_factory=dict)
    """What each policy would take if it were run by itself, by its name."""
    once: Tokens = Tokens()
    """What they take together, decoded as one tree."""
    units: float = 0.0
    resident: float = 0.0
    """Tokens of all units' trunks with their prompts: what a cache must hold of each while it is under way, summed."""
    chains: Mapping[str, float] = field(default_factory=dict)
    """Tokens of each policy's longest trace: they can only be decoded one after the other."""
    beside: float = 0.0
    """Traces that units decode at once, besides one each, summed."""

    @property
    def longest(self) -> float:
        """The longest chain."""
        return max(self.chains.values())

    def only(self, policy: str) -> Workload:
        """The part of one policy, run by itself."""
        tokens = self.alone[policy]
        return replace(self, alone={policy: tokens}, once=tokens, chains={policy: self.chains[policy]})

    def __add__(self, other: Workload) -> Workload:
        names = dict.fromkeys((*self.alone, *other.alone))
        return Workload(
            {name: self.alone.get(name, Tokens()) + other.alone.get(name, Tokens()) for name in names},
            self.once + other.once,
            self.units + other.units,
            self.resident + other.resident,
            {name: max(self.chains.get(name, 0), other.chains.get(name, 0)) for name in names},
            self.beside + other.beside,
        )

    def times(self, factor: float) -> Workload:
        """So many like it."""
        alone = {name: tokens.times(factor) for name, tokens in self.alone.items()}
        return Workload(
            *(alone, self.once.times(factor), self.units * factor, self.resident * factor, self.chains),
            self.beside * factor,
        )


def unit(tree: Tree, policies: Iterable[Policy], room: Room, prompt: int, known: Known) -> Workload:
    """What one unit takes whose pieces go as far as `known` says; `prompt` is in tokens."""
    alone: dict[str, Tokens] = {}
    branches: dict[BranchPath, tuple[int, int]] = {}
    answers: dict[Key, tuple[int, int]] = {}
    chains: dict[str, float] = {}
    for policy in policies:
        end = leaf(tree, policy, room, known)
        needed = _path_to(tree, policy, end, known)
        spent = Tokens(prompts=prompt)
        for path, (start, length) in needed.items():
            spent += Tokens.stretch(prompt + start, length)
            branches[path] = (start, max(length, branches.get(path, (0, 0))[1]))
        if end.answer is not None:
            spent += Tokens.stretch(prompt + end.thinking_tokens, end.answer_tokens)
            answers[end.answer] = (end.thinking_tokens, end.answer_tokens)
        alone[policy.name] = spent
        chains[policy.name] = end.thinking_tokens + end.answer_tokens
    once = Tokens(prompts=prompt)
    for start, length in (*branches.values(), *answers.values()):
        once += Tokens.stretch(prompt + start, length)
    trunk = branches.get((), (0, 0))[1]
    return Workload(alone, once, 1, prompt + trunk + room.answer, chains)


def searched(forest: Forest, room: Room, prompt: int, lengths: ThinkingForecast, window: float) -> Workload:
    """What the searches of an item take in the mean, followed as real ones are: what they have in common is decoded and
    scored once. `window` is how many tokens of a prompt the scorer's model takes, 0 where it has none."""
    several = max(2, DRAWS // forest.width)  # of a wide one, its own traces are many already
    total = Workload()
    for number in range(several):
        total += _one_searched(forest, room, prompt, _Simulated(forest.steps, lengths, number), window)
    return total.times(1 / several)


def _one_searched(forest: Forest, room: Room, prompt: int, known: _Simulated, window: float) -> Workload:
    alone: dict[str, Tokens] = {}
    chains: dict[str, float] = {}
    nodes: dict[BranchPath, None] = {}
    answers: dict[Key, None] = {}
    for policy in forest.policies:
        outcome = forest.found(policy, room, known)
        of_policy = dict.fromkeys(leaf.answer for leaf in outcome.leaves)
        if forest.reads_answers:
            of_policy |= dict.fromkeys(forest.answer_at(path, known) for path in outcome.nodes)
        alone[policy.name] = _of_search(forest, outcome.nodes, of_policy, room, prompt, window, known)
        chains[policy.name] = max((leaf.thinking_tokens + room.answer for leaf in outcome.leaves), default=0)
        nodes |= dict.fromkeys(outcome.nodes)
        answers |= of_policy
    once = _of_search(forest, nodes, answers, room, prompt, window, known)
    # Traces that do not fit beside each other wait: a cache must hold one.
    return Workload(alone, once, 1, prompt + max(chains.values()), chains, forest.width - 1)


def _of_search(
    forest: Forest,
    nodes: Iterable[BranchPath],
    answers: Iterable[Key],
    room: Room,
    prompt: int,
    window: float,
    known: Known,
) -> Tokens:
    """Steps, answers, and what a scorer reads at each step: all before it, of which only the step is new to it."""
    spent = Tokens(prompts=prompt, fresh=min(window, prompt))
    ends: dict[BranchPath, float] = {(): 0}
    answer = min(known(Key((), "forced")).length, room.answer)
    for path in nodes:  # parents come before their children
        length = known(Key(path, "thinking")).length
        ends[path] = ends[path[:-1]] + length
        said = length + (answer if forest.reads_answers else 0)
        read = min(window, prompt + ends[path[:-1]] + said)
        spent += Tokens.stretch(prompt + ends[path[:-1]], length)
        spent += Tokens(scored=read, fresh=min(read, said), scores=1 if window else 0)
    for key in answers:
        spent += Tokens.stretch(prompt + ends[key.branch], answer)
    return spent


@dataclass(frozen=True)
class _Simulated:
    """Searches whose traces are as long as traces are assumed to be. Where a trace ends, and how good its steps are, is
    drawn by their names, so that it is the same for all searches."""

    steps: Steps
    lengths: ThinkingForecast
    number: int
    """Of the item: each has traces of its own."""

    def __call__(self, key: Key) -> Extent:
        if key.kind in ANSWERS:
            return Extent(round(self.lengths.answer), True)
        ends, score = self._uniform(key.branch)
        if key.kind == "score":
            return Extent(as_bits(score), True)
        depth = len(key.branch)
        left = [length - (depth - 1) * self._step for length in self._naturals]
        there = [length for length in left if length > 0] or [1]
        last = [length for length in there if length <= self._step]
        place = ends * len(there)
        return Extent(last[int(place)], True) if place < len(last) else Extent(self._step, False)

    def _uniform(self, path: BranchPath) -> tuple[float, float]:
        """Two numbers of a step's own, from 0 to 1."""
        drawn = hashlib.blake2b(repr((self.number, path)).encode(), digest_size=8).digest()
        return int.from_bytes(drawn[:4]) / 2**32, int.from_bytes(drawn[4:]) / 2**32

    @cached_property
    def _step(self) -> int:
        whole = self.steps.at is None
        return self.steps.tokens if whole else max(1, min(round(self.lengths.step), self.steps.tokens))

    @cached_property
    def _naturals(self) -> list[int]:
        return sorted(max(1, known(Key((), "thinking")).length) for known in draws(self.lengths))


def _most_searched(forest: Forest, room: Room, prompt: int, window: float) -> Workload:
    """As many traces as a search is wide, as long as can be, that have nothing in common; each step is scored."""
    steps, length = forest.steps, forest.longest(room)
    trace = Tokens.stretch(prompt, length) + Tokens.stretch(prompt + length, room.answer)
    for number in range(1, steps.most + 1):
        read = min(window, prompt + min(number * steps.tokens, length) + (room.answer if forest.reads_answers else 0))
        trace += Tokens(scored=read, fresh=read, scores=1 if window else 0)
        if forest.reads_answers:
            trace += Tokens.stretch(prompt + length, room.answer)
    alone = {policy.name: trace.times(policy.width) + Tokens(prompts=prompt) for policy in forest.policies}
    chains = dict.fromkeys(alone, float(length + room.answer))
    together = sum(alone.values(), Tokens())
    return Workload(alone, together, 1, prompt + length + room.answer, chains, forest.width - 1)


def item(
    tree: Grown,
    policies: Sequence[Policy],
    room: Room,
    prompt: int,
    lengths: ThinkingForecast,
    window: float = 0,
) -> Workload:
    """What a sample of an item takes in the mean. Chains are those of the longest trace. `window` is of
    :func:`searched`."""
    if isinstance(tree, Forest):
        return searched(tree, room, prompt, lengths, window)
    drawn = list(draws(lengths))
    total = Workload()
    for known in drawn:
        total += unit(tree, policies, room, prompt, known)
    mean = total.times(1 / len(drawn))
    alone = dict(mean.alone)
    for policy in policies:
        if policy.tries:
            accepted = sum(leaf(tree, policy, room, known).thinking_end == "natural" for known in drawn) / len(drawn)
            alone[policy.name] = alone[policy.name].times(policy.samples_looked_at(accepted))
    return replace(mean, alone=alone)


def at_most(
    tree: Grown, policies: Sequence[Policy], room: Room, prompt: int, thinks: bool = True, window: float = 0
) -> Workload:
    """The most that a sample can take: every trace runs to its largest budget, or, of a model whose thinking is not
    told apart, every answer to its limit.

    Where thinking is extended, the most is when it ends at once and what follows each string runs to its budget.
    """
    if isinstance(tree, Forest):
        return _most_searched(tree, room, prompt, window)
    if not thinks:
        return unit(tree, policies, room, prompt, trace(0, 0, ENDLESS))
    endless = unit(tree, policies, room, prompt, trace(ENDLESS, ENDLESS, ENDLESS))
    extended = unit(tree, policies, room, prompt, trace(1, ENDLESS, ENDLESS))
    return max(endless, extended, key=lambda each: each.once.decoded)


def _path_to(tree: Tree, policy: Policy, end: Leaf, known: Known) -> dict[BranchPath, tuple[int, int]]:
    """The branches that lead to a policy's answer: where each begins, and how many tokens of it are needed."""
    needed: dict[BranchPath, tuple[int, int]] = {}
    path: BranchPath = ()
    start = 0
    for string in policy.route.strings[: end.extensions_used]:
        length = known(Key(path, "thinking")).length
        needed[path] = (start, length)
        start += length + tree.injected[string]
        path = (*path, string)
    needed[path] = (start, end.thinking_tokens - start)
    return needed
