"""Search over steps of thinking: a tree of steps, of which scores decide which go on. Pure data and pure functions.

A *node* is one step, decoded after all steps above it. It is named by the numbers of its ancestors' children and its
own: ``("3", "0")`` is the first child of the fourth of the first steps. Its random stream is named so too. What a node
says therefore follows from its name alone: wider searches, and searches by other rules or scorers, find the nodes that
they have in common in the store. Only which nodes there are depends on scores.

A search is followed from the root by what is known (:meth:`Forest.wanted`), as a tree of branches is
(:mod:`jobs.evaluate.sweep.tree`): pieces that are missing are wanted, and once a whole level of nodes is known and
scored the policy says how many children each has. Nothing else is remembered, so a search that is killed anywhere goes
on as if it had not been. A score is a mark on its node, kept under the scorer's name: its extent's length is the number
itself, as the bits of a float32, so that following a search needs no token ids.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jobs.evaluate.sweep.ledger import ThinkingEnd
from jobs.evaluate.sweep.policy import Policy, Root
from jobs.evaluate.sweep.steps import Steps
from jobs.evaluate.sweep.tree import UNKNOWN, BranchPath, Key, Known, Room, Want, is_complete

VOTES = {
    "weighted": "each answer counts by the last score of its trace",
    "majority": "each answer counts once, as in the s1 paper",
    "best": "the answer of the trace that is scored best",
}


class Node(NamedTuple):
    """A step that is decoded and scored."""

    path: BranchPath
    score: float
    finished: bool
    """Whether thinking ended with it, by itself or because it may not go on."""


class Choice(NamedTuple):
    """What becomes of the nodes of a level."""

    leaves: tuple[int, ...]
    """Numbers of the finished nodes that are kept."""
    children: tuple[int, ...]
    """Of each node; 0 where it is finished or given up."""


class SearchLeaf(NamedTuple):
    """A trace that a search keeps."""

    path: BranchPath
    score: float
    thinking_tokens: int
    end: ThinkingEnd
    answer: Key


class Found(NamedTuple):
    """What a search came to."""

    nodes: tuple[BranchPath, ...]
    """All that were decoded for it."""
    leaves: tuple[SearchLeaf, ...]
    """Empty where the prompt left no room for a step."""


@dataclass(frozen=True)
class SearchPolicy(Policy):
    """A search. Subclasses say how a level of nodes is followed by the next."""

    width: int
    """Nodes of the first level, and the most of any."""
    steps: Steps
    vote: str
    """How its leaves elect its answer: a key of :data:`VOTES`."""
    repeats: int
    """Searches of each item."""

    @abstractmethod
    def choose(self, level: Sequence[Node], left: int) -> Choice:
        """What becomes of a level; `left` is the width without the leaves of the levels above."""

    @property
    def root(self) -> Root:
        return Root(steps=self.steps)

    @property
    def setting(self) -> str:
        return str(self.width)

    @property
    def place(self) -> float:
        return self.width

    @property
    def elects(self) -> bool:
        return True

    @property
    def suffix(self) -> str:
        """Of names, where the vote is not the usual one."""
        return "" if self.vote == "weighted" else f" by {self.vote}"


def as_bits(score: float) -> int:
    """`score` as a float32's bits, a whole number that a mark can have for its place."""
    bits: int = struct.unpack("<i", struct.pack("<f", score))[0]
    return bits


def as_score(bits: int) -> float:
    """The score of which these are the bits."""
    score: float = struct.unpack("<f", struct.pack("<i", bits))[0]
    return score


def score_key(path: BranchPath, scorer: str) -> Key:
    """The mark that a scorer leaves on a node: the score, as :func:`as_bits`."""
    return Key((*path, scorer), "score")


def read_key(path: BranchPath, scorer: str) -> Key:
    """The mark beside it: the tokens that the scorer read for it."""
    return Key((*path, scorer), "read")


@dataclass(frozen=True)
class Forest:
    """The searches of a sweep that cut thinking into the same steps."""

    policies: tuple[SearchPolicy, ...]
    scorer: str
    """What identifies it, briefly."""
    reads_answers: bool
    """Whether it scores a trace by the answer that the trace would give where it stands."""

    @property
    def steps(self) -> Steps:
        """Where they branch."""
        return self.policies[0].steps

    @property
    def width(self) -> int:
        """Requests of one unit at once, at most."""
        return sum(policy.width for policy in self.policies)

    def longest(self, room: Room) -> int:
        """Thinking tokens of the longest trace."""
        return min(self.steps.most * self.steps.tokens, max(0, room.thinking))

    def wanted(self, room: Room, known: Known) -> Iterator[Want]:
        """Every node, answer and score that is missing and can be had now. None means that all searches are done."""
        wanted: dict[Key, Want] = {}
        for policy in self.policies:
            self._follow(policy, room, known, wanted)
        yield from wanted.values()

    def found(self, policy: SearchPolicy, room: Room, known: Known) -> Found:
        """What `policy` came to. Raises ValueError when its nodes are not all known."""
        wanted: dict[Key, Want] = {}
        outcome = self._follow(policy, room, known, wanted)
        if outcome is None or wanted:
            raise ValueError(f"{policy.name}: {next(iter(wanted))} is not known")
        return outcome

    def answer_at(self, path: BranchPath, known: Known) -> Key:
        """The answer of a trace that stands at a node."""
        position = sum(known(Key(path[:depth], "thinking")).length for depth in range(1, len(path) + 1))
        return Key(path, "natural" if known(Key(path, "thinking")).ended else "forced", position)

    def _follow(self, policy: SearchPolicy, room: Room, known: Known, wanted: dict[Key, Want]) -> Found | None:
        """Goes down level by level, as far as it is known, and adds what is missing to `wanted`."""
        if room.thinking < self.steps.tokens:
            return Found((), ())
        nodes: list[BranchPath] = []
        leaves: list[SearchLeaf] = []
        ends: dict[BranchPath, int] = {(): 0}
        level: list[BranchPath] = [(str(number),) for number in range(policy.width)]
        left = policy.width
        while level:
            scored = [self._leaf(path, ends[path[:-1]], room, known, wanted) for path in level]
            whole = [(each, last) for each, last in filter(None, scored)]
            if len(whole) < len(level):
                return None
            nodes += level
            ends |= {each.path: each.thinking_tokens for each, _ in whole}
            choice = policy.choose([Node(each.path, each.score, last) for each, last in whole], left)
            kept = [whole[number][0] for number in choice.leaves]
            for each in kept:
                self._want_answer(each.answer, room, known, wanted)
            leaves += kept
            left -= sum(last for _, last in whole)
            level = [(*path, str(n)) for path, count in zip(level, choice.children, strict=True) for n in range(count)]
        return Found(tuple(nodes), tuple(leaves))

    def _leaf(
        self, path: BranchPath, start: int, room: Room, known: Known, wanted: dict[Key, Want]
    ) -> tuple[SearchLeaf, bool] | None:
        """A node as if the trace ended with it, and whether it does; None where something of it is still wanted."""
        key = Key(path, "thinking")
        extent = known(key)
        if extent == UNKNOWN:
            wanted[key] = Want(key, start, self.steps.tokens)
            return None
        position = start + extent.length
        end: ThinkingEnd = "natural" if extent.ended else "forced"
        if not extent.ended and position + self.steps.tokens > room.thinking:
            end = "context"
        answer = Key(path, "natural" if extent.ended else "forced", position)
        if self.reads_answers and not self._want_answer(answer, room, known, wanted):
            return None
        mark = score_key(path, self.scorer)
        bits, there = known(mark)
        if not there:
            wanted[mark] = Want(mark, position, 0)
            return None
        last = end != "forced" or len(path) == self.steps.most
        return SearchLeaf(path, as_score(bits), position, end, answer), last

    def _want_answer(self, answer: Key, room: Room, known: Known, wanted: dict[Key, Want]) -> bool:
        """Whether the answer is there."""
        if not (there := is_complete(*known(answer), room)):
            wanted[answer] = Want(answer, answer.cut, room.answer)
        return there
