"""Decodes the tree of one unit against an engine. The only asynchronous part of a sweep's logic.

What to decode is the tree's business (:func:`jobs.evaluate.sweep.tree.wanted`); the walker asks it again whenever a
stream crosses a budget or ends, and starts what has become possible: answers fork while their branch goes on, children
start at natural ends. All requests of a unit live in one task group: when one fails or the unit is cancelled, the
others are cancelled with it, and their streams are closed before :meth:`Walker.walk` returns.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from jobs.evaluate.decode.banning import BanningEngine
from jobs.evaluate.decode.closes import thinking_stream
from jobs.evaluate.decode.headers import Headers
from jobs.evaluate.decode.watching import RuleWatch
from jobs.evaluate.engines.protocol import Chunk, Engine, EngineError, Request, Sampling
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.token_text import Finder
from jobs.evaluate.sweep.tree import Extent, Key, Tree, Want, cuts, wanted
from jobs.evaluate.traces.segments import TRUNK as TRUNK_KEY
from jobs.evaluate.traces.segments import Segment, Trace

FORK, CHILD, TRUNK = range(3)
"""Priorities. A fork's prefix is still cached when it is asked for; new trunks would push it out."""


@dataclass(frozen=True)
class Walker:
    """Decodes units of one sweep on one engine; any number at once."""

    engine: Engine
    tree: Tree
    forcing: Forcing
    sampling: Sampling
    seed: int
    record: Callable[[Segment], None]
    """Takes each stretch of tokens as soon as it is worth keeping: at every budget crossed, and at every end."""
    beliefs: bool = False
    """Whether it is kept how sure the model was of each token."""
    watch: RuleWatch | None = None
    """Ends thinking where a rule says so."""

    async def walk(self, unit: Unit, trace: Trace) -> None:
        """Decodes what `trace` lacks of the unit's tree, adding to it.

        Raises :class:`EngineError`; whatever was recorded before stays valid.
        """
        walk = _Walk(self, unit, trace)
        try:
            async with asyncio.TaskGroup() as walk.group:
                walk.look_back()
                await walk.look_at_probes()
                walk.start((), 0)
        except* EngineError as failures:
            raise failures.exceptions[0] from None


@dataclass
class _Walk:
    """One unit on its way."""

    walker: Walker
    unit: Unit
    trace: Trace
    group: asyncio.TaskGroup = field(init=False)
    started: set[Key] = field(default_factory=set)
    stops: dict[Key, Finder] = field(default_factory=dict)
    """What is still looked for in the text of the trunk."""
    stopped: bool = False
    """Whether a rule said that the trunk has enough tokens."""

    def look_back(self) -> None:
        """Looks for the tree's stops in what is known of the trunk."""
        pieces = self.walker.forcing.pieces
        missing = [stop for stop in self.walker.tree.stops if not self.trace.extent(stop).ended]
        self.stops = {stop: Finder(stop.path, pieces, stop.cut + 1) for stop in missing}
        met = self._look(self.trace.tokens(TRUNK_KEY))
        if self.trace.extent(TRUNK_KEY) != (0, False):
            self._keep_stops([*met, *self.stops])

    async def look_at_probes(self) -> None:
        """Asks the rule, where there is one, and records where it stops the trunk."""
        watch, trace = self.walker.watch, self.trace
        if watch is None or self.stopped:
            return
        at: int | None = trace.extent(watch.key).length
        if not trace.extent(watch.key).ended:
            at = await watch.stop(self.unit, trace)
            if at is None or self.stopped:
                return
            trace.mark(watch.key, Extent(at, True))
            self.walker.record(trace.keep_mark(watch.key))
        self.stopped = True

    def _look(self, tokens: Sequence[int]) -> list[Key]:
        """Takes what was added to the trunk; returns the stops that were found in it."""
        met = []
        for stop, finder in list(self.stops.items()):
            complete = any(finder.add(token) for token in tokens)
            self.trace.mark(stop, Extent(finder.searched, complete))
            if complete:
                met.append(stop)
                del self.stops[stop]
        return met

    def _keep_stops(self, stops: Sequence[Key]) -> None:
        """Records how far they were looked for; the trunk was kept as far."""
        for stop in stops:
            self.walker.record(self.trace.keep_mark(stop))

    def start(self, path: tuple[str, ...], start: int) -> None:
        """Starts every piece from the branch `path` on that has become possible."""
        for want in wanted(self.walker.tree, self.unit.room, self.trace.extent, path, start):
            if want.key not in self.started and want.key.kind != "stop":
                self.started.add(want.key)
                self.group.create_task(self._decode(want))

    async def _decode(self, want: Want) -> None:
        key = want.key
        thinking = key.kind == "thinking"
        if thinking and not (
            self.walker.forcing.close and self.unit.thinks
        ):  # nothing that the model writes is thinking: it ends at once
            self.trace.end(key)
            self._keep(key, 0, True)
            self._keep_stops([*self._look(()), *self.stops])
            self.start(key.path, want.start)
            return
        kept = known = self.trace.extent(key).length
        ahead = iter(self._crossings(want) if thinking else ())
        crossing = next(ahead, want.limit)
        ended = False
        met: list[Key] = []
        headers = self._headers(key)
        begun: list[int] = []
        trunk = thinking and not key.path
        async with aclosing(self._stream(want, known)) as stream:
            async for tokens, end, beliefs, _ in stream:
                self.trace.extend(key, tokens, beliefs)
                known += len(tokens)
                ended = end == "stop"
                begun += [] if headers is None else headers.fresh(self.trace.tokens(key))
                met = self._look(tokens) if trunk else []
                if trunk and self.stopped and not ended and known < want.limit:
                    self._keep(key, kept, ended, begun)
                    return
                if thinking and (begun or met or crossing <= known) and known < want.limit and not ended:
                    self._keep(key, kept, ended, begun)
                    self._keep_stops(met)
                    kept = known
                    self.start(key.path, want.start)
                    while crossing <= known:
                        crossing = next(ahead, want.limit)
                    if (begun or met) and not self._goes_on(want):
                        self._keep_stops(list(self.stops))
                        return
                    begun = []
        if known > want.limit or (known < want.limit and not ended):
            raise EngineError(f"the engine decoded {known} tokens of {want.limit} without a stop")
        if ended:
            self.trace.end(key)
        self._keep(key, kept, ended, begun)
        if trunk:
            self._keep_stops([*met, *self.stops])
        if thinking:
            self.start(key.path, want.start)
        else:
            await self.look_at_probes()

    def _crossings(self, want: Want) -> list[int]:
        """Own tokens of the branch at which an answer leaves it."""
        return [cut - want.start for cut in cuts(self.walker.tree, want.key.path, want.start, self.unit.room)]

    def _stream(self, want: Want, known: int) -> AsyncGenerator[Chunk, None]:
        """Decodes a piece from its token `known` on; of thinking, without what is banned and to where it ends."""
        request, engine, forcing = self._request(want, known), self.walker.engine, self.walker.forcing
        if want.key.kind != "thinking":
            return engine.stream(request)
        if self.unit.banned:
            engine = BanningEngine(engine, self.unit.banned, forcing.pieces)
        return thinking_stream(engine, request, forcing, self.trace.tokens(want.key))

    def _request(self, want: Want, known: int) -> Request:
        key, forcing = want.key, self.walker.forcing
        thinking = key.kind == "thinking"
        priority = (CHILD if key.path else TRUNK) if thinking else FORK
        return Request(
            prompt=(*self.trace.before(key), *self.trace.tokens(key)),
            max_tokens=want.limit - known,
            stop=forcing.thinking_stops if thinking else forcing.end_of_turn,
            forbid_stop_first=thinking and bool(key.path) and known == 0,
            sampling=self.walker.sampling,
            given=len(self.unit.prompt),
            seed=stream_seed(self.walker.seed, self.unit, key),
            position=known,
            priority=priority,
            beliefs=self.walker.beliefs,
        )

    def _headers(self, key: Key) -> Headers | None:
        """Finds the steps of the trunk that are not known yet; None where no model writes any."""
        header, steps = self.walker.forcing.step, self.trace.steps
        if key.path or key.kind != "thinking" or not header:
            return None
        return Headers(header, steps[-1] + len(header) if steps else 0)

    def _goes_on(self, want: Want) -> bool:
        """Whether a branch is still wanted: the step that began may have been the last that any policy takes."""
        left = wanted(self.walker.tree, self.unit.room, self.trace.extent, want.key.path, want.start)
        return any(each.key == want.key for each in left)

    def _keep(self, key: Key, start: int, ended: bool, steps: Sequence[int] = ()) -> None:
        """Records a piece from `start` on, and the `steps` that begin there, at one go: both are kept, or neither."""
        if ended or self.trace.extent(key).length > start:
            self.walker.record(self.trace.keep(key, start))
        for begins in steps:
            self.walker.record(self.trace.keep_step(begins))


def stream_seed(seed: int, unit: Unit, key: Key) -> int:
    """The random stream of a piece: its own, and the same in whatever sweep the piece is decoded."""
    name = repr((seed, unit.item, unit.sample, key.path, key.kind, key.cut))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 2
