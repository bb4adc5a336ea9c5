"""How many requests a server is asked at once: as many as it takes without saying that they are too many.

Every answer raises the limit a little, every "too many" halves it: additive increase and multiplicative decrease, as
TCP does it. Requests that were under way together say "too many" together, so what was begun before the last halving
does not halve again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Lets through so many at once."""

    def __init__(self, most: int):
        self._most = most
        self._limit = float(most)
        self._inside = 0
        self._halvings = 0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """At once, now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def request(self) -> AsyncIterator[int]:
        """One request. Yields its era, for :meth:`too_many`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._inside < self.limit)
            self._inside += 1
        try:
            yield self._halvings
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def answered(self) -> None:
        """One more came through."""
        self._limit = min(self._most, self._limit + 1 / self._limit)

    def too_many(self, era: int) -> None:
        """The server refused a request of that era."""
        if era == self._halvings:
            self._halvings += 1
            self._limit = max(1.0, self._limit / 2)
