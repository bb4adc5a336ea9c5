"""How long a scorer had something to score: what a search costs in time besides decoding."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobs.evaluate.scorers.protocol import Score, Scorer, Standing


class Timed:
    """A scorer, and a clock that runs while it is asked about one trace at least."""

    def __init__(self, scorer: Scorer, clock: Callable[[], float] = time.monotonic):
        self._scorer = scorer
        self._clock = clock
        self._asked = 0
        self._since = 0.0
        self._spent = 0.0

    async def score(self, standing: Standing) -> Score:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        self._stop()
        self._asked += 1
        try:
            return await self._scorer.score(standing)
        finally:
            self._stop()
            self._asked -= 1

    def spent(self) -> float:
        """Seconds since the last call."""
        self._stop()
        spent, self._spent = self._spent, 0.0
        return spent

    async def close(self) -> None:
        """Ends the scorer."""
        await self._scorer.close()

    def _stop(self) -> None:
        now = self._clock()
        self._spent += (now - self._since) if self._asked else 0.0
        self._since = now
