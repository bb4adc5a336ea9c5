"""Notices an engine that hangs: requests are open, and none of them gets a token any more.

One clock for all requests, because one alone may wait long, and rightly so, while others are decoded before it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from jobs.evaluate.engines.protocol import Chunk, Engine, EngineError, Request


class Watched:
    """An engine, and since when it has been silent."""

    def __init__(self, engine: Engine, deadline: float):
        """`deadline` is in seconds."""
        self._engine = engine
        self._deadline = deadline
        self._open = 0
        self._heard = time.monotonic()

    @property
    def cache_tokens(self) -> int | None:
        """See :attr:`Engine.cache_tokens`."""
        return self._engine.cache_tokens

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        if not self._open:
            self._heard = time.monotonic()
        self._open += 1
        try:
            async with aclosing(self._engine.stream(request)) as chunks:
                async for chunk in chunks:
                    self._heard = time.monotonic()
                    yield chunk
        finally:
            self._open -= 1

    async def close(self) -> None:
        """See :meth:`Engine.close`."""
        await self._engine.close()

    def check(self) -> None:
        """Raises EngineError when requests have waited for a token beyond the deadline."""
        silent = time.monotonic() - self._heard
        if self._open and silent > self._deadline:
            raise EngineError(
                f"the engine hangs: no token of {self._open} requests in {silent:.0f} s, and resources.token_deadline "
                f"is {self._deadline:g}"
            )
