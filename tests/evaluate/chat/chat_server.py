"""A chat server for tests: it thinks for as long as its script says, and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Part = dict[str, Any] | bytes | None
"""An event; bytes as they are; None tears the connection down."""


@dataclass(frozen=True)
class Refusal:
    """An answer of another kind."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


Reply = Sequence[Part] | Refusal


def said(text: str, thinking: int, answer: int = 3, end: str = "stop") -> list[Part]:
    """An answer as such servers stream it."""
    half = len(text) // 2
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": thinking + answer,
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }
    return [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": text[:half]}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": text[half:]}, "finish_reason": end}]},
        {"choices": [], "usage": usage},
        b"data: [DONE]\n\n",
    ]


class ChatServer:
    """Answers each request with what `script` makes of it."""

    def __init__(self, script: Callable[[Body], Reply]):
        self.script = script
        self.bodies: list[Body] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        parts = self.script(body)
        if isinstance(parts, Refusal):
            return web.Response(status=parts.status, text=parts.text, headers=parts.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            if part is None:
                assert request.transport is not None
                request.transport.abort()
            else:
                await response.write(part if isinstance(part, bytes) else f"data: {json.dumps(part)}\n\n".encode())
        return response

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yields the address; serves in a thread of its own, because a sweep has an event loop of its own."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        runner = web.AppRunner(app, shutdown_timeout=0.1)

        async def start() -> int:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return int(runner.addresses[0][1])

        try:
            port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
