from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.scorers.protocol import Standing, StepScore
from jobs.evaluate.scorers.timed import Timed

STANDING = Standing("q", ((1,),), None, None)


@dataclass
class Waiting:
    """Scores once it is told to."""

    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def score(self, standing: Standing) -> StepScore:
        await self.told.wait()
        return StepScore(0.5, 3)

    async def close(self) -> None:
        """Holds nothing."""


def test_seconds_count_once_however_many_traces_are_scored_and_not_between_them() -> None:
    now = [0.0]

    async def use() -> None:
        scorer = Waiting()
        timed = Timed(scorer, clock=lambda: now[0])
        now[0] = 5.0
        both = [asyncio.create_task(timed.score(STANDING)) for _ in range(2)]
        await asyncio.sleep(0)
        now[0] = 7.0
        assert timed.spent() == 2.0, "five seconds of nothing are not in it"
        now[0] = 8.0
        scorer.told.set()
        await asyncio.gather(*both)
        now[0] = 100.0
        assert timed.spent() == 1.0
        assert timed.spent() == 0.0

    asyncio.run(use())


def test_a_scorer_that_hangs_is_noticed() -> None:
    now = [0.0]

    async def use() -> None:
        timed = Timed(Waiting(), 10.0, clock=lambda: now[0])
        now[0] = 1000.0
        timed.check()
        asked = asyncio.create_task(timed.score(STANDING))
        await asyncio.sleep(0)
        now[0] = 1009.0
        timed.check()
        now[0] = 1011.0
        with pytest.raises(EngineError, match=r"the scorer hangs: no score of 1 traces in 11 s"):
            timed.check()
        asked.cancel()

    asyncio.run(use())
