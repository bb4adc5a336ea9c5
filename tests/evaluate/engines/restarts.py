"""What a sweep that is killed again and again comes to, on any engine: the walker goes on from what was recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from math import inf

from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Chunk, Engine, EngineError, Request, Sampling
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.tree import Key, Tree
from jobs.evaluate.traces.segments import Segment, Trace

Pieces = dict[Key, tuple[tuple[int, ...], bool]]
"""The tokens of each piece of a unit, and whether a stop ended it."""


@dataclass
class Mortal:
    """An engine that dies after so many chunks, with whatever is under way."""

    engine: Engine
    left: float

    @property
    def cache_tokens(self) -> int | None:
        return self.engine.cache_tokens

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async with aclosing(self.engine.stream(request)) as chunks:
            async for chunk in chunks:
                if self.left < 1:
                    raise EngineError("killed")
                self.left -= 1
                yield chunk

    async def close(self) -> None:
        pass


async def decoded(
    engine: Engine, unit: Unit, tree: Tree, forcing: Forcing, sampling: Sampling, lives: Iterable[float] = ()
) -> Pieces:
    """All pieces of `unit`, decoded by one engine after the other: each lives for so many chunks, the last for good."""
    kept: list[Segment] = []
    each: Iterator[float] = iter(lives)
    while True:
        trace = Trace(unit, forcing)
        for segment in kept:
            trace.restore(segment)
        mortal = Mortal(engine, next(each, inf))
        try:
            await Walker(mortal, tree, forcing, sampling, 0, kept.append).walk(unit, trace)
        except EngineError:
            if mortal.left >= 1:
                raise
            continue
        return {key: (tuple(trace.tokens(key)), trace.extent(key).ended) for key in {one.key for one in kept}}
