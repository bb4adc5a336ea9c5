"""A sweep that is killed comes to what it would have come to undisturbed, whatever was lost of what it had decoded.

What is lost are tokens since the last that was recorded, and with them how long the trace was going to be. If they were
drawn anew, the traces that were under way would have another chance to be short, while the short ones were kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest

from jobs.evaluate.engines.protocol import Chunk, Engine, Request, Sampling
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, Room, grow
from tests.evaluate.engines.restarts import Pieces, decoded
from tests.evaluate.scripted import END_OF_TURN, FIRST_WORD, forcing

pytestmark = pytest.mark.processes

UNITS = 1000
TREE = grow(grid([None]), {})


class Memoryless:
    """Ends after 100 tokens in the mean, and draws by stream and position. Only its stream's end is ever recorded."""

    @property
    def cache_tokens(self) -> int | None:
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        for count in range(request.max_tokens):
            rng = Random(f"{request.seed} {request.position + count}")
            if rng.random() < 0.01:
                yield Chunk([], "stop")
                return
            yield Chunk([FIRST_WORD + rng.randrange(8)], "length" if count + 1 == request.max_tokens else None)

    async def close(self) -> None:
        pass


class Forgetful(Memoryless):
    """Draws anew whenever it is asked to continue, as an engine with a generator per request does."""

    def __init__(self) -> None:
        self._asked = 0

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self._asked += 1
        async for chunk in super().stream(replace(request, seed=request.seed ^ self._asked << 40)):
            yield chunk


def sweep(engine: Engine, kills: int) -> list[Pieces]:
    rng = Random(1)

    async def whole() -> list[Pieces]:
        found = []
        for number in range(UNITS):
            unit = Unit(f"item {number}", 0, (END_OF_TURN, 5), Room(600, 3))
            lives = [float(rng.randrange(200)) for _ in range(kills)]
            found.append(await decoded(engine, unit, TREE, forcing({}), Sampling(1.0), lives))
        return found

    return asyncio.run(whole())


def mean_length(found: list[Pieces]) -> float:
    return fmean(len(pieces[Key((), "thinking")][0]) for pieces in found)


def test_traces_that_were_killed_are_those_of_an_undisturbed_sweep() -> None:
    undisturbed = sweep(Memoryless(), kills=0)
    assert sweep(Memoryless(), kills=2) == undisturbed
    assert 80 < mean_length(undisturbed) < 120


def test_traces_that_are_drawn_anew_come_out_short() -> None:
    """What the test above guards against, and that it would notice."""
    assert mean_length(sweep(Forgetful(), kills=2)) < 0.9 * mean_length(sweep(Forgetful(), kills=0))
