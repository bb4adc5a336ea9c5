"""Searches the tree of one unit: decodes steps, has them scored, and goes on as the searches of its forest say.

What is missing is the forest's business (:meth:`jobs.evaluate.sweep.search.Forest.wanted`); it is asked again whenever
something is there that was not. Steps, answers and scores are recorded as they come, each whole, so whoever goes on
after a kill finds every expansion that was recorded, and asks neither engine nor scorer for it again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from jobs.evaluate.decode.closes import thinking_stream
from jobs.evaluate.decode.walker import CHILD, FORK, stream_seed
from jobs.evaluate.engines.protocol import Belief, Engine, EngineError, Request, Sampling
from jobs.evaluate.scorers.protocol import Scorer, Standing
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.search import Forest, as_bits, read_key
from jobs.evaluate.sweep.steps import HEADER, Steps
from jobs.evaluate.sweep.token_text import Finder
from jobs.evaluate.sweep.tree import BranchPath, Extent, Key, Want
from jobs.evaluate.traces.segments import TRUNK, Segment, Trace


@dataclass(frozen=True)
class SearchWalker:
    """Searches units of one sweep with one engine and one scorer; any number at once."""

    engine: Engine
    scorer: Scorer
    forest: Forest
    forcing: Forcing
    sampling: Sampling
    seed: int
    record: Callable[[Segment], None]
    """Takes each step, answer and score as soon as it is there."""
    beliefs: bool = False
    """Whether it is kept how sure the model was of each token."""

    async def walk(self, unit: Unit, trace: Trace) -> None:
        """Decodes and scores what `trace` lacks of the unit's searches, adding to it.

        Raises :class:`EngineError`; whatever was recorded before stays valid.
        """
        walk = _Walk(self, unit, trace)
        try:
            async with asyncio.TaskGroup() as walk.group:
                walk.start()
        except* EngineError as failures:
            raise failures.exceptions[0] from None


@dataclass
class _Walk:
    """One unit on its way."""

    walker: SearchWalker
    unit: Unit
    trace: Trace
    group: asyncio.TaskGroup = field(init=False)
    started: set[Key] = field(default_factory=set)

    def start(self) -> None:
        """Starts everything that has become possible."""
        wanted = list(self.walker.forest.wanted(self.unit.room, self.trace.extent))
        if wanted and not self.trace.begun:
            self.walker.record(self.trace.keep(TRUNK, 0))
        for want in wanted:
            if want.key not in self.started:
                self.started.add(want.key)
                self.group.create_task(self._do(want))

    async def _do(self, want: Want) -> None:
        if want.key.kind == "score":
            await self._score(want.key)
        elif want.key.kind == "thinking":
            await self._step(want)
        else:
            await self._answer(want)
        self.start()

    async def _step(self, want: Want) -> None:
        key, forcing = want.key, self.walker.forcing
        request = self._request(want, forcing.thinking_stops, CHILD)
        before = [token for step in self._steps(key.path[:-1]) for token in step]
        ends = step_end(self.unit.steps, forcing)
        step: list[int] = []
        sure: list[Belief] = []
        end = None
        async with aclosing(thinking_stream(self.walker.engine, request, forcing, before)) as stream:
            async for tokens, end, beliefs, _ in stream:
                sure += beliefs
                for token in tokens:
                    step.append(token)
                    if ends.add(token):
                        end = "length"
                        break
                if end is not None:
                    break
        if end is None:
            raise EngineError(f"the engine decoded {len(step)} tokens of a step of {want.limit} without a stop")
        self.trace.extend(key, step, sure[: len(step)])
        if end == "stop":
            self.trace.end(key)
        self.walker.record(self.trace.keep(key, 0))

    async def _answer(self, want: Want) -> None:
        key = want.key
        request = self._request(want, self.walker.forcing.end_of_turn, FORK)
        known = start = request.position
        async with aclosing(self.walker.engine.stream(request)) as stream:
            async for tokens, end, beliefs, _ in stream:
                self.trace.extend(key, tokens, beliefs)
                known += len(tokens)
                if end == "stop":
                    self.trace.end(key)
        if known < want.limit and not self.trace.extent(key).ended:
            raise EngineError(f"the engine decoded {known} tokens of {want.limit} without a stop")
        self.walker.record(self.trace.keep(key, start))

    async def _score(self, mark: Key) -> None:
        forest, path = self.walker.forest, mark.branch
        steps = tuple(self._steps(path))
        answer = forest.answer_at(path, self.trace.extent) if forest.reads_answers else None
        standing = Standing(
            self.unit.item,
            steps,
            None if answer is None else answer.closing,
            None if answer is None else tuple(self.trace.tokens(answer)),
        )
        value, read = await self.walker.scorer.score(standing)
        if not math.isfinite(value):
            raise EngineError(f"the scorer said {value} of a trace of {len(steps)} steps")
        for key, number in ((read_key(path, forest.scorer), read), (mark, as_bits(value))):
            self.trace.mark(key, Extent(number, True))
            self.walker.record(self.trace.keep_mark(key))

    def _steps(self, path: BranchPath) -> list[tuple[int, ...]]:
        """The tokens of a node and of all above it."""
        return [tuple(self.trace.tokens(Key(path[:depth], "thinking"))) for depth in range(1, len(path) + 1)]

    def _request(self, want: Want, stop: tuple[int, ...], priority: int) -> Request:
        known = self.trace.extent(want.key).length
        return Request(
            prompt=(*self.trace.before(want.key), *self.trace.tokens(want.key)),
            max_tokens=want.limit - known,
            stop=stop,
            sampling=self.walker.sampling,
            given=len(self.unit.prompt),
            seed=stream_seed(self.walker.seed, self.unit, want.key),
            position=known,
            priority=priority,
            beliefs=self.walker.beliefs,
        )


class StepEnd(Protocol):
    """Looks for the end of a step as it grows."""

    def add(self, token: int) -> bool:
        """Takes the next token. Returns whether the step ends with it."""


def step_end(steps: Steps | None, forcing: Forcing) -> StepEnd:
    """What ends a step, apart from its length."""
    if steps is None or steps.at is None:
        return _Never()
    if steps.at == HEADER:
        return _Tokens(forcing.step)
    return _Text(steps.at, forcing.pieces)


class _Never:
    """Steps are of so many tokens."""

    def add(self, token: int) -> bool:
        return False


class _Tokens:
    """Steps end with a header, which is the next one's; that of the first stands before it."""

    def __init__(self, header: tuple[int, ...]):
        self._header = header
        self._last: tuple[int, ...] = ()
        self._count = 0

    def add(self, token: int) -> bool:
        self._count += 1
        self._last = (*self._last, token)[-len(self._header) :]
        return self._last == self._header and self._count > len(self._header)


class _Text:
    """Steps end with a text, and say something before it: what models write first is often an empty line."""

    def __init__(self, text: str, pieces: tuple[bytes, ...]):
        self._finder = Finder((text,), pieces)
        self._pieces = pieces
        self._said = False

    def add(self, token: int) -> bool:
        piece = self._pieces[token] if token < len(self._pieces) else b""
        self._said = self._said or bool(piece.strip())
        return self._finder.add(token) and self._said
