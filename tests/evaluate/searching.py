"""For tests of searches: a scorer that is a pure function of the trace, and an oracle that searches by itself.

The oracle follows the papers: it knows nothing of marks, extents or what is stored, decodes with the script directly,
and keeps its tree as nested lists.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobs.evaluate.scorers.protocol import Standing, StepScore
from jobs.evaluate.sweep.policies.beam import Beam
from jobs.evaluate.sweep.policies.dvts import Dvts
from jobs.evaluate.sweep.policies.rebase import Rebase
from jobs.evaluate.sweep.policies.scored import Scored
from jobs.evaluate.sweep.search import SearchPolicy
from jobs.evaluate.sweep.steps import Steps
from tests.evaluate.scripted import CLOSE, END_OF_TURN, PIECES, Script


def said(tokens: Sequence[int], grain: int) -> float:
    """A score of a trace: a multiple of 1 / `grain`, so that few are equal, or many."""
    digest = hashlib.blake2b(array("i", tokens).tobytes(), digest_size=4).digest()
    exact = int.from_bytes(digest) % (grain + 1) / grain
    (rounded,) = struct.unpack("<f", struct.pack("<f", exact))
    return float(rounded)


@dataclass
class ScriptedScorer:
    """Says what :func:`said` does, and remembers what it was asked."""

    grain: int = 1000
    asked: list[Standing] = field(default_factory=list)
    closed: bool = False

    async def score(self, standing: Standing) -> StepScore:
        self.asked.append(standing)
        tokens = [token for step in standing.steps for token in step]
        return StepScore(said(tokens, self.grain), 10 + len(tokens))

    async def close(self) -> None:
        self.closed = True


@dataclass
class OracleNode:
    name: tuple[int, ...]
    tokens: list[int]
    """Of the whole trace."""
    natural: bool
    score: float

    @property
    def depth(self) -> int:
        return len(self.name)


@dataclass
class Oracle:
    """Runs one search as its paper says, step by step."""

    script: Script
    prompt: tuple[int, ...]
    room: int
    grain: int
    decoded: int = 0
    nodes: list[OracleNode] = field(default_factory=list)

    def step(self, name: tuple[int, ...], before: list[int], policy: SearchPolicy) -> OracleNode:
        tokens, natural, said_something, new = list(before), False, False, b""
        script = branch(self.script, name)
        while len(tokens) - len(before) < policy.steps.tokens:
            token = script.next((*self.prompt, *tokens), (CLOSE, END_OF_TURN), False)
            if token in (CLOSE, END_OF_TURN):
                natural = True
                break
            tokens.append(token)
            self.decoded += 1
            new += PIECES[token]
            said_something = said_something or bool(PIECES[token].strip())
            at = policy.steps.at and policy.steps.at.encode()
            if at is not None and said_something and at in new[-len(at) - len(PIECES[token]) + 1 :]:
                break
        node = OracleNode(name, tokens, natural, said(tokens, self.grain))
        self.nodes.append(node)
        return node

    def ended(self, node: OracleNode, policy: SearchPolicy) -> bool:
        no_room = len(node.tokens) + policy.steps.tokens > self.room
        return node.natural or no_room or node.depth == policy.steps.most

    def run(self, policy: SearchPolicy) -> list[OracleNode]:
        """The leaves that the search keeps."""
        if self.room < policy.steps.tokens:
            return []
        if isinstance(policy, Dvts):
            return [leaf for tree in range(policy.width // policy.each) if (leaf := self._greedy(policy, tree))]
        level = [self.step((number,), [], policy) for number in range(policy.width)]
        leaves: list[OracleNode] = []
        budget = policy.width
        while level:
            done = [node for node in level if self.ended(node, policy)]
            leaves += done
            budget -= len(done)
            going = [node for node in level if not self.ended(node, policy)]
            if isinstance(policy, Scored):
                assert not going, "it is a search of one step"
                counts = []
            elif isinstance(policy, Rebase):
                counts = self._rebased(going, budget, policy.balance)
            else:
                assert isinstance(policy, Beam)
                counts = self._best(going, budget, policy.each)
            level = [
                self.step((*node.name, number), node.tokens, policy)
                for node, count in zip(going, counts, strict=True)
                for number in range(count)
            ]
        return leaves

    def _rebased(self, nodes: list[OracleNode], budget: int, balance: float) -> list[int]:
        """Algorithm of the paper's code, with logarithms instead of weights."""
        counts = dict.fromkeys(range(len(nodes)), 0)
        left = sorted(counts, key=lambda number: nodes[number].score, reverse=True)
        while left and budget:
            top = nodes[left[0]].score
            share = 1 / math.fsum(math.exp((nodes[number].score - top) / balance) for number in left)
            counts[left[0]] = min(budget, math.ceil(budget * share - 1e-9))
            budget -= counts[left.pop(0)]
        return list(counts.values())

    def _best(self, nodes: list[OracleNode], budget: int, each: int) -> list[int]:
        counts = [0] * len(nodes)
        ranked = sorted(range(len(nodes)), key=lambda number: (-nodes[number].score, number))
        while ranked and budget > 0:
            counts[ranked[0]] = min(each, budget)
            budget -= counts[ranked.pop(0)]
        return counts

    def _greedy(self, policy: Dvts, tree: int) -> OracleNode:
        names: list[tuple[int, ...]] = [(tree * policy.each + number,) for number in range(policy.each)]
        before: list[int] = []
        while True:
            level = [self.step(name, before, policy) for name in names]
            best = max(level, key=lambda node: node.score)
            if self.ended(best, policy):
                return best
            names, before = [(*best.name, number) for number in range(policy.each)], best.tokens


def branch(script: Script, name: tuple[int, ...]) -> Script:
    """What the model says on a branch of its own random stream."""
    digest = hashlib.blake2b(repr(name).encode(), digest_size=6).digest()
    return Script(script.seed ^ int.from_bytes(digest), script.stop_share)


SEARCHES: dict[str, Callable[[random.Random, Steps], SearchPolicy]] = {
    "rebase": lambda rng, steps: Rebase(rng.randint(1, 12), steps, "weighted", 1, rng.choice([0.02, 0.1, 0.2, 1.0])),
    "beam": lambda rng, steps: Beam(rng.randint(1, 12), steps, "weighted", 1, rng.randint(1, 4)),
    "dvts": lambda rng, steps: Dvts((each := rng.randint(1, 4)) * rng.randint(1, 4), steps, "weighted", 1, each),
    "scored": lambda rng, steps: Scored(rng.randint(1, 12), Steps(None, steps.tokens, 1), "best", 1),
}
"""One of each kind, by the kind's key."""


def any_policy(rng: random.Random) -> SearchPolicy:
    """A search of any kind."""
    steps = Steps(rng.choice([None, "\n", "a", "\u20ac"]), rng.randint(1, 6), rng.randint(1, 6))
    return SEARCHES[rng.choice(list(SEARCHES))](rng, steps)
