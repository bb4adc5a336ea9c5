"""One copy of the model at work: an actor that decodes the units it is given and writes down what it decoded.

The driver talks to it through one call, :meth:`Replica.exchange`: units in, acknowledgements out. A unit is
acknowledged only once the file with its records is on disk, so whatever happens to the replica, what the driver
believes is there.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jobs.evaluate.decode.admission import Admission
from jobs.evaluate.decode.leftovers import end_orphans, mark, wait_for_memory
from jobs.evaluate.decode.search_walker import SearchWalker
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.decode.watching import OnlineRule, RuleWatch
from jobs.evaluate.engines.protocol import Engine, EngineError, Sampling
from jobs.evaluate.engines.watched import Watched
from jobs.evaluate.grading.workers import Workers
from jobs.evaluate.scorers.protocol import Scorer
from jobs.evaluate.scorers.timed import Timed
from jobs.evaluate.sweep.grown import Grown, longest
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.search import Forest
from jobs.evaluate.traces.files import DamagedFile, UnitId, read_tokens
from jobs.evaluate.traces.segments import Row, Segment, Trace
from jobs.evaluate.traces.trace_writer import TraceWriter

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

ANSWER_SECONDS = 1.0
"""Within which the driver hears of a replica."""
IDLE_SECONDS = 0.1
"""That a replica without work waits before it says so."""


@dataclass(frozen=True)
class ReplicaSpec:
    """What every replica of a sweep is made from."""

    start: Callable[[], Awaitable[Engine]]
    """Starts its engine."""
    trees: tuple[Grown, ...]
    """What is decoded of a unit: that of its number."""
    forcing: Forcing
    sampling: Sampling
    seed: int
    folder: StoragePath
    """Where records go."""
    in_flight: int
    """Units decoded at once, unless the engine's cache is expected to hold fewer."""
    token_deadline: float = math.inf
    """Seconds without a token, or a score, after which the engine, or the scorer, is taken to hang."""
    redirect_output: Callable[[str], None] | None = None
    """Called first in a replica's process, with the replica's name: sends what it and its engine say to a log."""
    leave: Callable[[], None] | None = None
    """Called last."""
    fetch: Callable[[Callable[[int, int], None]], None] | None = None
    """Sees that its machine has the model, and tells how many bytes of how many are there."""
    on_gpus: bool = False
    """Whether it was given cards, whose memory must be free before it starts."""
    beliefs: bool = False
    """Whether it is kept how sure the model was of each token."""
    online: OnlineRule | None = None
    """Ends thinking while it is decoded."""
    decoded_by: Callable[[], str] | None = None
    """Says what decodes, once the engine was started: it is kept with every trace."""
    scorer: Callable[[], Awaitable[Scorer]] | None = None
    """Starts what scores the steps of searches, once the engine was started."""


@dataclass(frozen=True)
class Work:
    """A unit, with what is known of it and where that lies."""

    unit: Unit
    rows: tuple[Row, ...] = ()
    places: tuple[tuple[str, int, int], ...] = ()

    @cached_property
    def size(self) -> int:
        """Tokens that are known."""
        return sum(row.length for row in self.rows)

    def longest(self, tree: Grown, forcing: Forcing) -> int:
        """Tokens of the longest sequence that the unit may need: to where thinking is cut last, and an answer."""
        unit = self.unit
        return len(unit.prompt) + longest(tree, unit.room) + forcing.reserve + unit.room.answer

    def trace(self, forcing: Forcing) -> Trace:
        """What is known, tokens and all. Raises DamagedFile."""
        unit = self.unit
        trace = Trace(unit, forcing)
        for row, place, tokens in zip(self.rows, self.places, read_tokens(self.places), strict=True):
            sure = row.sureness
            segment = Segment(unit.item, unit.sample, row.key, row.start, tokens, row.ended, row.parent, sureness=sure)
            if segment.digest != row.digest:
                raise DamagedFile(place[0])
            trace.restore(segment)
        return trace


@dataclass(frozen=True)
class Decoded:
    """Tokens that engines decoded, stop tokens not included, and what scorers took."""

    thinking: int = 0
    answers: int = 0
    scored: int = 0
    """Tokens that scorers read."""
    scoring: float = 0.0
    """Seconds for which scorers had something to score."""

    @property
    def tokens(self) -> int:
        return self.thinking + self.answers

    def __add__(self, other: Decoded) -> Decoded:
        return Decoded(
            self.thinking + other.thinking,
            self.answers + other.answers,
            self.scored + other.scored,
            self.scoring + other.scoring,
        )


@dataclass(frozen=True)
class Fetched:
    """How much of the model a replica's machine has."""

    done: bool
    there: int = 0
    """Bytes."""
    of: int = 0


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
    sizes: Mapping[UnitId, int]
    """Tokens by now of the units that are finished or under way, whether or not they are on disk."""
    unwritten: int = 0
    """Units that are done, and not on disk yet."""


class Replica:
    """Runs as a Ray actor; everything in it happens on one event loop."""

    def __init__(self, spec: ReplicaSpec, name: str):
        if spec.redirect_output is not None:
            spec.redirect_output(name)
        self._spec = spec
        self._writer = TraceWriter(spec.folder)
        self._readers = Workers(processes=1)
        """Read answers, where a rule asks what they say."""
        self._merging: asyncio.Task[None] | None = None
        self._finished: list[UnitId] = []
        self._unreadable: dict[UnitId, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching: asyncio.Task[None] | None = None
        self._bytes = (0, 0)
        self._traces: dict[UnitId, Trace] = {}
        """Of units under way, and of those that are finished and not reported yet."""

    async def fetch(self) -> Fetched:
        """Has the model fetched to this machine. Answers every second, until it is there. Raises EngineError."""
        if self._spec.fetch is None:
            return Fetched(True)
        if self._fetching is None:
            self._fetching = asyncio.create_task(asyncio.to_thread(self._spec.fetch, self._note_bytes))
        await asyncio.wait([self._fetching], timeout=ANSWER_SECONDS)
        if self._fetching.done():
            self._fetching.result()
        return Fetched(self._fetching.done(), *self._bytes)

    def _note_bytes(self, there: int, of: int) -> None:
        self._bytes = (there, of)

    async def start(self) -> tuple[int, int | None]:
        """Starts the engine, once nothing that an earlier one left is in its way. Returns this process's id and the
        tokens that the engine's cache holds."""
        spec = self._spec
        await asyncio.to_thread(end_orphans)
        if spec.on_gpus:
            await asyncio.to_thread(wait_for_memory)
        mark()
        self._engine = Watched(await spec.start(), spec.token_deadline)
        self._scorer = None if spec.scorer is None else Timed(await spec.scorer(), spec.token_deadline)
        self._walkers = [self._walker(tree) for tree in spec.trees]
        self._admission = Admission(self._engine.cache_tokens, spec.in_flight)
        self._writer.decoded_by = None if spec.decoded_by is None else spec.decoded_by()
        return os.getpid(), self._engine.cache_tokens

    def _walker(self, tree: Grown) -> Walker | SearchWalker:
        spec, record = self._spec, self._writer.record
        if isinstance(tree, Forest):
            assert self._scorer is not None, "a sweep that searches has a scorer"
            return SearchWalker(
                *(self._engine, self._scorer, tree, spec.forcing, spec.sampling, spec.seed, record, spec.beliefs)
            )
        watch = None
        if spec.online is not None:
            watch = RuleWatch(spec.online, self._readers.read)
        return Walker(self._engine, tree, spec.forcing, spec.sampling, spec.seed, record, spec.beliefs, watch)

    async def exchange(self, work: list[Work]) -> Report:
        """Takes `work`; answers once all units are done and on disk, and every second at least.

        Raises EngineError once the engine has failed, or has been silent for too long; what was decoded until then is
        on disk, if not acknowledged.
        """
        self._tasks.update(asyncio.create_task(self._decode(item)) for item in work)
        if self._tasks:
            done, self._tasks = await asyncio.wait(self._tasks, timeout=min(ANSWER_SECONDS, self._writer.due))
        else:
            done = set()
            await asyncio.sleep(IDLE_SECONDS)
        decoded, finished = Decoded(), list[UnitId]()
        try:
            self._engine.check()
            if self._scorer is not None:
                self._scorer.check()
            for task in done:
                task.result()
        except EngineError:
            await self._write()
            raise
        self._admission.admit()
        if not self._tasks or not self._writer.due:
            # Those that finish while it is written may have something in the next file.
            finished, self._finished = self._finished, []
            decoded = await self._write()
        unreadable, self._unreadable = self._unreadable, {}
        sizes = {name: trace.size for name, trace in self._traces.items()}
        for name in finished:
            del self._traces[name]
        return Report(
            tuple(finished),
            decoded,
            tuple(unreadable),
            tuple(dict.fromkeys(unreadable.values())),
            self._admission.at_once,
            sizes,
            len(self._finished),
        )

    async def close(self) -> Decoded:
        """Stops decoding, writes what there is, and ends the engine. Returns what was written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        decoded = await self._write()
        if self._scorer is not None:
            await self._scorer.close()
        await self._engine.close()
        self._readers.__exit__(None, None, None)
        if self._merging is not None:
            await self._merging
        await asyncio.to_thread(self._writer.finish)
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
            self._traces[name] = trace
            place.size = lambda: len(unit.prompt) + trace.thinking_tokens
            await self._walkers[unit.tree].walk(unit, trace)
        self._finished.append(name)

    async def _write(self) -> Decoded:
        """Puts in the store what was decoded since the last time.

        A disk or a bucket may take its time, and so may merging: decoding goes on.
        """
        segments = self._writer.take()
        await asyncio.to_thread(self._writer.write, segments)
        if self._merging is not None and self._merging.done():
            self._merging.result()
            self._merging = None
        if self._merging is None and self._writer.mergeable:
            self._merging = asyncio.create_task(asyncio.to_thread(self._writer.merge))
        thinking = sum(len(segment.tokens) for segment in segments if segment.key.kind == "thinking")
        scored = sum(segment.start for segment in segments if segment.key.kind == "read")
        seconds = 0.0 if self._scorer is None else self._scorer.spent()
        return Decoded(thinking, sum(len(segment.tokens) for segment in segments) - thinking, scored, seconds)
