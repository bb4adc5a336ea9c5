"""How long a scorer had something to score, which a search costs in time besides decoding; and one that hangs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.scorers.protocol import Scorer, Standing, StepScore


class Timed:
    """A scorer, and a clock that runs while it is asked about one trace at least."""

    def __init__(self, scorer: Scorer, deadline: float = math.inf, clock: Callable[[], float] = time.monotonic):
        """`deadline` is in seconds."""
        self._scorer = scorer
        self._deadline = deadline
        self._clock = clock
        self._asked = 0
        self._since = 0.0
        self._spent = 0.0
        self._heard = 0.0

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        self._stop()
        if not self._asked:
            self._heard = self._since
        self._asked += 1
        try:
            return await self._scorer.score(standing)
        finally:
            self._stop()
            self._heard = self._since
            self._asked -= 1

    def check(self) -> None:
        """Raises EngineError when traces have waited for a score beyond the deadline."""
        silent = self._clock() - self._heard
        if self._asked and silent > self._deadline:
            raise EngineError(
                f"the scorer hangs: no score of {self._asked} traces in {silent:.0f} s, and resources.token_deadline "
                f"is {self._deadline:g}"
            )

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
