"""One copy of the model at work: an actor that decodes the units it is given and writes down what it decoded.

The driver talks to it through one call, :meth:`Replica.exchange`: units in, acknowledgements out. A unit is
acknowledged only once the file with its records is on disk, so whatever happens to the replica, what the driver
believes is there.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.evaluate.admission import Admission
from jobs.evaluate.engines import Engine, Sampling
from jobs.evaluate.engines.watched import Watched
from jobs.evaluate.prompts import Forcing, Unit
from jobs.evaluate.trace_files import DamagedFile, UnitId, read_tokens, write
from jobs.evaluate.traces import Row, Segment, Trace
from jobs.evaluate.tree import Tree, cuts
from jobs.evaluate.walker import Walker

if TYPE_CHECKING:
    from orchestrator.places import Place

FLUSH_SECONDS = 1.0
"""What a dying replica loses at most, in decoding time."""
FLUSH_SECONDS_REMOTE = 5.0
"""The same where traces go to a bucket, so that those of a night are not a million objects."""


@dataclass(frozen=True)
class ReplicaSpec:
    """What every replica of a sweep is made from."""

    start: Callable[[], Awaitable[Engine]]
    """Starts its engine."""
    trees: tuple[Tree, ...]
    """What is decoded of a unit: that of its number."""
    forcing: Forcing
    sampling: Sampling
    seed: int
    folder: Place
    """Where records go."""
    in_flight: int
    """Units decoded at once, unless the engine's cache is expected to hold fewer."""
    token_deadline: float = math.inf
    """Seconds without a token after which the engine is taken to hang."""
    redirect_output: Callable[[str], None] | None = None
    """Called first in a replica's process, with the replica's name: sends what it and its engine say to a log."""
    leave: Callable[[], None] | None = None
    """Called last."""
    decoded_by: Callable[[], str] | None = None
    """Says what decodes, once the engine was started: it is kept with every trace."""


@dataclass(frozen=True)
class Work:
    """A unit, with what is known of it and where that lies."""

    unit: Unit
    rows: tuple[Row, ...] = ()
    places: tuple[tuple[str, int, int], ...] = ()

    def longest(self, tree: Tree, forcing: Forcing) -> int:
        """Tokens of the longest sequence that the unit may need: to the last cut of the trunk, and an answer."""
        unit = self.unit
        last = max(cuts(tree.branches[()], 0, unit.room), default=0)
        return len(unit.prompt) + last + forcing.reserve + unit.room.answer

    def trace(self, forcing: Forcing) -> Trace:
        """What is known, tokens and all. Raises DamagedFile."""
        unit = self.unit
        trace = Trace(unit, forcing)
        for row, place, tokens in zip(self.rows, self.places, read_tokens(self.places), strict=True):
            segment = Segment(unit.item, unit.sample, row.key, row.start, tokens, row.ended, row.parent)
            if segment.digest != row.digest:
                raise DamagedFile(place[0])
            trace.restore(segment)
        return trace


@dataclass(frozen=True)
class Decoded:
    """Tokens that engines decoded, stop tokens not included."""

    thinking: int = 0
    answers: int = 0

    def __add__(self, other: Decoded) -> Decoded:
        return Decoded(self.thinking + other.thinking, self.answers + other.answers)


@dataclass(frozen=True)
class Report:
    """What a replica has to say since its last report."""

    finished: tuple[UnitId, ...]
    """Units that are done and on disk."""
    decoded: Decoded
    """Tokens that are on disk, those of unfinished units included."""
    unreadable: tuple[UnitId, ...]
    """Units given back, because what was known of them could not be read."""
    damaged: tuple[str, ...]
    """The files at fault."""
    at_once: int
    """Units that it can decode at once, as far as it can tell by now."""


class Replica:
    """Runs as a Ray actor; everything in it happens on one event loop."""

    def __init__(self, spec: ReplicaSpec, name: str):
        if spec.redirect_output is not None:
            spec.redirect_output(name)
        self._spec = spec
        self._unwritten: list[Segment] = []
        self._decoded_by: str | None = None
        self._finished: list[UnitId] = []
        self._unreadable: dict[UnitId, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushed = time.monotonic()
        self._flush_seconds = FLUSH_SECONDS if isinstance(spec.folder, Path) else FLUSH_SECONDS_REMOTE

    async def start(self) -> tuple[int, int | None]:
        """Starts the engine. Returns this process's id and the tokens that the engine's cache holds."""
        spec = self._spec
        self._engine = Watched(await spec.start(), spec.token_deadline)
        self._walkers = [
            Walker(self._engine, tree, spec.forcing, spec.sampling, spec.seed, self._unwritten.append)
            for tree in spec.trees
        ]
        self._admission = Admission(self._engine.cache_tokens, spec.in_flight)
        self._decoded_by = None if spec.decoded_by is None else spec.decoded_by()
        return os.getpid(), self._engine.cache_tokens

    async def exchange(self, work: list[Work]) -> Report:
        """Takes `work`; answers once all units are done, and every second at least.

        Raises EngineError once the engine has failed, or has been silent for too long; what was decoded until then is
        on disk, if not acknowledged.
        """
        self._tasks.update(asyncio.create_task(self._decode(item)) for item in work)
        if self._tasks:
            left = self._flushed + self._flush_seconds - time.monotonic()
            done, self._tasks = await asyncio.wait(self._tasks, timeout=max(0.0, left))
        else:
            done = set()
        # Those that finish while it is written may have something in the next file.
        finished, self._finished = self._finished, []
        decoded = await self._flush()
        self._engine.check()
        self._admission.admit()
        for task in done:
            task.result()
        unreadable, self._unreadable = self._unreadable, {}
        return Report(
            tuple(finished),
            decoded,
            tuple(unreadable),
            tuple(dict.fromkeys(unreadable.values())),
            self._admission.at_once,
        )

    async def close(self) -> Decoded:
        """Stops decoding, writes what there is, and ends the engine. Returns what was written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        decoded = await self._flush()
        await self._engine.close()
        if self._spec.leave is not None:
            self._spec.leave()
        return decoded

    async def _decode(self, work: Work) -> None:
        unit, spec = work.unit, self._spec
        name = (unit.item, unit.sample)
        async with self._admission.turn(work.longest(spec.trees[unit.tree], spec.forcing)) as place:
            try:
                trace = work.trace(spec.forcing)
            except DamagedFile as error:
                self._unreadable[name] = str(error)
                return
            place.size = lambda: len(unit.prompt) + trace.thinking_tokens
            await self._walkers[unit.tree].walk(unit, trace)
        self._finished.append(name)

    async def _flush(self) -> Decoded:
        """Puts in the store what was decoded since the last time. A bucket may take its time, so decoding goes on."""
        segments = self._unwritten.copy()
        self._unwritten.clear()  # the walker holds on to this very list
        if isinstance(self._spec.folder, Path):
            write(self._spec.folder, segments, self._decoded_by)
        else:
            await asyncio.to_thread(write, self._spec.folder, segments, self._decoded_by)
        self._flushed = time.monotonic()
        thinking = sum(len(segment.tokens) for segment in segments if segment.key.kind == "thinking")
        return Decoded(thinking, sum(len(segment.tokens) for segment in segments) - thinking)
