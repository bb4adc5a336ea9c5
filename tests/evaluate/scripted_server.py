"""A server of completions that does what a test says, part by part, and how the client of servers meets it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiohttp import web

from jobs.evaluate.engines.protocol import Engine, EngineSpec, Request, ServedModel, start
from jobs.evaluate.engines.server import Server

VOCABULARY, IDS, CONTEXT = 100, 103, 64
STOP = 7
REQUEST = Request((1, 2, 3), 5, (STOP, 8))

CUT, SILENCE = object(), object()
Part = bytes | object


def event(tokens: list[int], end: str | None = None, **more: object) -> bytes:
    return line({"choices": [{"index": 0, "text": "\u2028", "token_ids": tokens, "finish_reason": end, **more}]})


def line(value: object) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
PROBE = [event([0], "length"), DONE]


class Scripted:
    """Answers each request with the next script; the last one again and again. The first is the engine's own probe."""

    def __init__(self, *scripts: list[Part] | web.Response):
        self.scripts = [PROBE, *scripts]
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.models: object = {"object": "list", "data": [{"id": "m", "max_model_len": CONTEXT}]}
        self.left = asyncio.Event()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(len(self.bodies), len(self.scripts) - 1)]
        self.bodies.append(await request.json())
        self.times.append(time.monotonic())
        if isinstance(script, web.Response):
            return web.Response(status=script.status, body=script.body, headers=script.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in script:
            if part is CUT:
                assert request.transport is not None
                request.transport.abort()
            elif part is SILENCE:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.left.set()
                    raise
            else:
                assert isinstance(part, bytes)
                await response.write(part)
        return response

    async def list_models(self, request: web.Request) -> web.Response:
        if isinstance(self.models, web.Response):
            return self.models
        return web.json_response(self.models)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_get("/v1/models", self.list_models)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


def spec(url: str, **access: Any) -> EngineSpec:
    server = Server(**({"url": url, "retries": 1, "deadline": 20} | access))
    return EngineSpec("openai", "m", None, "float32", CONTEXT, VOCABULARY, 0, 1, ServedModel("m", IDS, server))


@asynccontextmanager
async def engine_of(scripted: Scripted, **access: Any) -> AsyncIterator[Engine]:
    async with scripted.serving() as url:
        engine = await start(spec(url, **access))
        try:
            yield engine
        finally:
            await engine.close()


async def whole(engine: Engine, request: Request) -> tuple[list[int], str | None]:
    tokens: list[int] = []
    end = None
    async with aclosing(engine.stream(request)) as chunks:
        async for chunk in chunks:
            tokens += chunk.tokens
            end = chunk.end
    return tokens, end


def decoded(scripted: Scripted, request: Request = REQUEST, **access: Any) -> tuple[list[int], str | None]:
    async def use() -> tuple[list[int], str | None]:
        async with engine_of(scripted, **access) as engine:
            return await whole(engine, request)

    return asyncio.run(use())
