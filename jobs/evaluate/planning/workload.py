"""What a sweep would decode: what each of its policies needs by itself, and what they need together, each token once.

Counted on the sweep's own tree, with lengths that are assumed (:mod:`jobs.evaluate.planning.lengths`), by the function
that accounts for policies once the lengths are known. Pure arithmetic: a plan has it before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.evaluate.planning.lengths import ENDLESS, draws, trace
from jobs.evaluate.sweep.grown import Grown
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Forest
from jobs.evaluate.sweep.tree import BranchPath, Key, Known, Leaf, Room, Tree, leaf
from jobs.forecasts import ThinkingForecast


@dataclass(frozen=True)
class Tokens:
    """Work of an engine. Means over items are fractions."""

    decoded: float = 0.0
    read: float = 0.0
    """Tokens whose keys and values attention reads: for each decoded token, all that are before it."""
    prompts: float = 0.0
    """Tokens of prompts."""

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.decoded + other.decoded, self.read + other.read, self.prompts + other.prompts)

    def times(self, factor: float) -> Tokens:
        return Tokens(self.decoded * factor, self.read * factor, self.prompts * factor)

    @classmethod
    def stretch(cls, start: float, length: float) -> Tokens:
        """`length` tokens, decoded after `start` others."""
        return cls(length, length * (start + length / 2))


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
        )

    def times(self, factor: float) -> Workload:
        """So many like it."""
        alone = {name: tokens.times(factor) for name, tokens in self.alone.items()}
        return Workload(alone, self.once.times(factor), self.units * factor, self.resident * factor, self.chains)


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


def searched(forest: Forest, room: Room, prompt: int, thinking: float, answer: float) -> Workload:
    """What the searches of an item take whose traces think so long: as many traces as they are wide, as if none shared
    a step with another. Searches of one sweep share what they have in common, which nobody can tell beforehand."""
    length = min(thinking, forest.longest(room))
    answer = min(answer, room.answer)
    trace = Tokens.stretch(prompt, length) + Tokens.stretch(prompt + length, answer)
    alone = {policy.name: trace.times(policy.width) + Tokens(prompts=prompt) for policy in forest.policies}
    chains = dict.fromkeys(alone, length + answer)
    # Traces that do not fit beside each other wait: a cache must hold one.
    return Workload(alone, sum(alone.values(), Tokens()), 1, prompt + length + room.answer, chains)


def item(tree: Grown, policies: Sequence[Policy], room: Room, prompt: int, lengths: ThinkingForecast) -> Workload:
    """What a sample of an item takes in the mean. Chains are those of the longest trace."""
    if isinstance(tree, Forest):
        return searched(tree, room, prompt, lengths.natural, lengths.answer)
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


def at_most(tree: Grown, policies: Sequence[Policy], room: Room, prompt: int, thinks: bool = True) -> Workload:
    """The most that a sample can take: every trace runs to its largest budget, or, of a model whose thinking is not
    told apart, every answer to its limit.

    Where thinking is extended, the most is when it ends at once and what follows each string runs to its budget.
    """
    if isinstance(tree, Forest):
        return searched(tree, room, prompt, ENDLESS, ENDLESS)
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
