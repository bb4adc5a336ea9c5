"""What is known of a unit's tree, as token ids, and the records that say so.

A :class:`Segment` is a stretch of one piece: the tokens decoded between two moments at which they were worth keeping.
Each names by digest the segment that holds the token before it, so segments form a chain like commits do, from the
prompt to every answer. That one link settles everything that can go wrong with records: a segment whose predecessor was
lost counts for nothing; two sweeps that decoded the same unit at the same time never get mixed; and a segment whose
tokens do not hash to its digest is damaged. Following the links needs no token ids (:func:`resolve`), so an index of
millions of segments reads only small columns.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from jobs.evaluate.engines.protocol import Belief
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.tree import ANSWERS, UNKNOWN, BranchPath, Extent, Key

TRUNK = Key((), "thinking")
MARKS = ("stop", "rule", "score", "read")
"""Kinds of which a segment says one number, by its start."""


class _Nothing(dict[str, tuple[int, ...]]):
    """What stands between a step and the next: the branches of a search are named by numbers, and those add no text."""

    def __missing__(self, number: str) -> tuple[int, ...]:
        return ()


class Sureness(NamedTuple):
    """How sure the model was of an answer; NaN where it is not kept."""

    logprob: float
    """The mean log-probability of its tokens."""
    entropy: float
    """Of its first token, in nats."""


UNSURE = Sureness(math.nan, math.nan)


@dataclass(frozen=True)
class Segment:
    """A stretch of a piece of a unit, as it is kept."""

    item: str
    sample: int
    key: Key
    start: int
    """Tokens of the piece before this stretch; of a step, the position at which it begins; of a stop, how far it was
    looked for; of a rule, where it stopped thinking; of a score, its bits, and of what was read for it, the tokens."""
    tokens: tuple[int, ...]
    ended: bool
    """Whether a stop token follows."""
    parent: int
    """Digest of the segment that holds the token before, or :func:`root`."""
    confidences: tuple[float, ...] = ()
    """Of each token, of thinking: :attr:`jobs.evaluate.engines.protocol.Belief.confidence`, where it is kept."""
    sureness: Sureness = UNSURE
    """Of an answer, where it is kept. Neither is part of what a segment is: its digest has no say of it."""

    @cached_property
    def digest(self) -> int:
        """64 bits over everything above, hence over the whole sequence up to the segment's end."""
        head = repr((self.item, self.sample, tuple(self.key), self.start, self.ended, self.parent))
        return _hash(head.encode() + b"\0" + array("i", self.tokens).tobytes())


def root(item: str, sample: int) -> int:
    """The parent of a unit's first segment."""
    return _hash(repr((item, sample)).encode())


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


@dataclass
class _Piece:
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    ends: list[int] = field(default_factory=list)
    """Where its segments end, in tokens; ascending."""
    beliefs: list[Belief | None] = field(default_factory=list)
    """Of each token; None where it was known from before."""
    sureness: Sureness = UNSURE
    digests: list[int] = field(default_factory=list)


class Trace:
    """The known part of one unit's tree. Grows at the ends of its pieces only."""

    def __init__(self, unit: Unit, forcing: Forcing):
        self._unit = unit
        self._forcing = forcing
        self._pieces: dict[Key, _Piece] = {}
        self._steps: list[int] = []
        self._marks: dict[Key, Extent] = {}
        self._injected: Mapping[str, tuple[int, ...]] = forcing.injected if unit.steps is None else _Nothing()

    @property
    def steps(self) -> Sequence[int]:
        """Positions on the trunk at which steps are known to begin, ascending."""
        return self._steps

    @property
    def thinking_tokens(self) -> int:
        """Tokens of thinking that are known, those of all branches."""
        return sum(len(piece.tokens) for key, piece in self._pieces.items() if key.kind == "thinking")

    @property
    def size(self) -> int:
        """Tokens that are known, answers included."""
        return sum(len(piece.tokens) for piece in self._pieces.values())

    @property
    def begun(self) -> bool:
        """Whether anything of the trunk was kept, be it that there is nothing on it."""
        return TRUNK in self._pieces

    def restore(self, segment: Segment) -> None:
        """Adds what was kept earlier. Its parent must have been added before."""
        if segment.key.kind == "step":
            self._steps = sorted({*self._steps, segment.start})
            return
        if segment.key.kind in MARKS:
            self._marks[segment.key] = Extent(segment.start, segment.ended)
            return
        self.extend(segment.key, segment.tokens)
        if segment.ended:
            self.end(segment.key)
        self._pieces[segment.key].sureness = segment.sureness
        self._close(segment)

    def sureness(self, key: Key) -> Sureness:
        """How sure the model was of an answer."""
        return self._pieces[key].sureness

    def extent(self, key: Key) -> Extent:
        """How far the piece `key` is known."""
        if key.kind == "step":
            return Extent(self._steps[key.cut], True) if key.cut < len(self._steps) else UNKNOWN
        if key.kind in MARKS:
            return self._marks.get(key, UNKNOWN)
        piece = self._pieces.get(key)
        return UNKNOWN if piece is None else Extent(len(piece.tokens), piece.ended)

    def tokens(self, key: Key) -> Sequence[int]:
        """The known tokens of a piece."""
        piece = self._pieces.get(key)
        return () if piece is None else piece.tokens

    def extend(self, key: Key, tokens: Sequence[int], beliefs: Sequence[Belief] = ()) -> None:
        """Adds what was decoded of a piece, with how sure the model was, where that is kept."""
        piece = self._pieces.setdefault(key, _Piece())
        piece.tokens.extend(tokens)
        piece.beliefs.extend(beliefs or [None] * len(tokens))

    def end(self, key: Key) -> None:
        """A stop token follows the known tokens of `key`."""
        self._pieces.setdefault(key, _Piece()).ended = True

    def mark(self, key: Key, extent: Extent) -> None:
        """What a mark says: of a stop, how far its strings were looked for, and whether the first is complete there."""
        self._marks[key] = extent

    def before(self, key: Key) -> tuple[int, ...]:
        """Everything that the model is given before the piece `key`: prompt, branches, injections, delimiters."""
        thinking: list[int] = []
        path = key.branch
        for depth, string in enumerate(path):
            thinking.extend(self.tokens(Key(path[:depth], "thinking")))
            thinking.extend(self._injected[string])
        if key.kind == "thinking":
            return (*self._unit.prompt, *thinking)
        assert key.kind in ANSWERS, "marks are no pieces, and are not decoded"
        thinking.extend(self.tokens(Key(path, "thinking")))
        del thinking[key.cut :]
        if not self._unit.thinks:
            return self._unit.prompt
        closing = self._forcing.closing(key.closing, thinking[-1] if thinking else self._unit.prompt[-1])
        return (*self._unit.prompt, *thinking, *closing)

    def keep(self, key: Key, start: int) -> Segment:
        """Closes the tokens of `key` from `start` on into a segment."""
        piece = self._pieces.setdefault(key, _Piece())
        tokens = tuple(piece.tokens[start:])
        unit = self._unit
        beliefs = [belief for belief in piece.beliefs[start:] if belief is not None]
        confidences: tuple[float, ...] = ()
        if key.kind == "thinking":
            confidences = tuple(belief.confidence for belief in beliefs)
        elif beliefs:
            piece.sureness = _sureness(beliefs, piece.sureness, start)
        segment = Segment(
            *(unit.item, unit.sample, key, start, tokens, piece.ended, self._parent(key)),
            *(confidences, piece.sureness),
        )
        self._close(segment)
        return segment

    def keep_step(self, begins: int) -> Segment:
        """Notes that a step begins at a position of the trunk, in a segment that follows what was kept of it last."""
        unit, key = self._unit, Key((), "step", len(self._steps))
        self._steps.append(begins)
        return Segment(unit.item, unit.sample, key, begins, (), True, self._pieces[TRUNK].digests[-1])

    def keep_mark(self, key: Key) -> Segment:
        """Notes what a mark says, in a segment that follows what was kept last of the piece that it is on."""
        unit, (number, settled) = self._unit, self._marks[key]
        on = TRUNK if key.kind in ("stop", "rule") else Key(key.branch, "thinking")
        return Segment(unit.item, unit.sample, key, number, (), settled, self._pieces[on].digests[-1])

    def _close(self, segment: Segment) -> None:
        piece = self._pieces[segment.key]
        piece.ends.append(len(piece.tokens))
        piece.digests.append(segment.digest)

    def _parent(self, key: Key) -> int:
        """The digest that the next segment of `key` follows."""
        piece = self._pieces.get(key)
        if piece is not None and piece.digests:
            return piece.digests[-1]
        if key == TRUNK:
            return root(self._unit.item, self._unit.sample)
        if key.kind == "thinking":
            return self._pieces[Key(key.path[:-1], "thinking")].digests[-1]
        branch = self._pieces[Key(key.branch, "thinking")]
        if key.kind == "natural":
            return branch.digests[-1]
        return branch.digests[bisect_left(branch.ends, key.cut - self._position(key.branch))]

    def _position(self, path: BranchPath) -> int:
        """Where the branch `path` begins, in thinking tokens."""
        lengths = (self.extent(Key(path[:depth], "thinking")).length for depth in range(len(path)))
        return sum(lengths) + sum(len(self._injected[string]) for string in path)


def _sureness(beliefs: Sequence[Belief], before: Sureness, start: int) -> Sureness:
    """Of an answer that goes on with `beliefs` after `start` tokens. It is rounded as it will be kept: a rule that runs
    sees the very numbers that its replay does."""
    total = sum(belief.logprob for belief in beliefs) + (before.logprob * start if start else 0.0)
    entropy = before.entropy if start else beliefs[0].entropy
    return Sureness(*array("f", (total / (start + len(beliefs)), entropy)))


class Row(NamedTuple):
    """A segment without its tokens, as an index holds it."""

    key: Key
    start: int
    length: int
    ended: bool
    digest: int
    parent: int
    place: int
    """Where its tokens are; the index's own affair."""
    sureness: Sureness = UNSURE


@dataclass
class Resolved:
    """What the records of one unit amount to."""

    extents: dict[Key, Extent] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    """Those that count, each after its parent."""

    def extent(self, key: Key) -> Extent:
        """How far the piece `key` is known."""
        return self.extents.get(key, UNKNOWN)


def resolve(root_digest: int, rows: Iterable[Row]) -> Resolved:
    """Follows the links from a unit's root. Of segments that compete for one place, the first given counts."""
    following: dict[int, dict[Key, Row]] = {}
    for row in rows:
        following.setdefault(row.parent, {}).setdefault(row.key, row)
    resolved = Resolved()
    reached = [root_digest]
    while reached:
        for key, row in following.get(reached.pop(), {}).items():
            resolved.extents[key] = Extent(row.start + row.length, row.ended)
            resolved.rows.append(row)
            reached.append(row.digest)
    return resolved
