"""The prompt as a page of this machine's own: asked and steered in a browser, with the tree of what was tried.

It is served on the loopback interface alone, under a token that only its address has, to whoever asks by that
interface's names: another page can neither read it nor steer the model. What a model wrote is sent as JSON and set as
text; the content security policy lets no script run but the page's own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any, Literal

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from jobs.evaluate.attempts.attempt import Attempt, Settings, Stretch
from jobs.evaluate.attempts.log import Log
from jobs.evaluate.attempts.orders import changed
from jobs.evaluate.attempts.session import Session, Unsteerable
from jobs.evaluate.engines.protocol import EngineError

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
LARGEST = 1 << 20
"""Bytes of a request."""


class PageOrder(BaseModel):
    """What a page asks for."""

    model_config = ConfigDict(extra="forbid")

    do: Literal["ask", "append", "cut", "again", "stop"]
    text: str = ""
    parent: int = 0
    at: int | None = Field(default=None, ge=0)
    budget: str = "auto"
    effort: str = ""
    temperature: str = "0"
    seed: str = "0"


class Served:
    """A session and those who watch it."""

    def __init__(self, session: Session, settings: Settings, log: Log):
        self.token = secrets.token_urlsafe(24)
        self.failure: EngineError | None = None
        self.failed: Callable[[], None] = _nothing
        """Called where the engine fails."""
        self._session = session
        self._settings = settings
        self._log = log
        self._decoding: dict[int, asyncio.Task[None]] = {}
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()

    def app(self) -> Starlette:
        """What answers requests."""
        routes = [Route(path, self._file) for path in FILES]
        routes += [Route("/events", self._events), Route("/orders", self._order, methods=["POST"])]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
        return Starlette(routes=routes, middleware=[hosts])

    async def close(self) -> None:
        """Stops what is decoded."""
        for task in self._decoding.values():
            task.cancel()
        await asyncio.gather(*self._decoding.values(), return_exceptions=True)

    async def _file(self, request: Request) -> Response:
        name, kind = FILES[request.url.path]
        if name == "page.html":
            self._check(request.query_params.get("token", ""))
        text = files(__package__).joinpath(name).read_text(encoding="utf-8")
        return Response(text, media_type=kind, headers=HEADERS)

    async def _events(self, request: Request) -> Response:
        """What there is, and what comes, as server-sent events."""
        self._check(request.query_params.get("token", ""))
        return StreamingResponse(self._watched(), media_type="text/event-stream", headers=HEADERS)

    async def _watched(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        settings = self._settings
        hello = {
            "kind": "hello",
            "model": self._session.name,
            "budget": "auto" if settings.budget is None else str(settings.budget),
            "effort": settings.effort or "",
            "temperature": f"{settings.sampling.temperature:g}",
            "seed": str(settings.seed),
        }
        known = [{"kind": "attempt", **self._record(attempt)} for attempt in self._session.attempts]
        self._watchers.add(queue)
        try:
            for event in (hello, *known):
                yield f"data: {json.dumps(event)}\n\n"
            while True:
                yield f"data: {json.dumps(await queue.get())}\n\n"
        finally:
            self._watchers.discard(queue)

    async def _order(self, request: Request) -> Response:
        self._check(request.headers.get("authorization", "").removeprefix("Bearer "))
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                raise HTTPException(413)
        try:
            order = PageOrder.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            return JSONResponse({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 400, HEADERS)
        try:
            return JSONResponse({"number": self._do(order)}, headers=HEADERS)
        except Unsteerable as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)

    def _do(self, order: PageOrder) -> int:
        """The number of the attempt that an order made, or stopped. Raises Unsteerable."""
        session = self._session
        if order.do == "ask":
            attempt = session.ask(order.text, self._with(order))
        else:
            if not 1 <= order.parent <= len(session.attempts):
                raise Unsteerable(f"there is no attempt {order.parent}: there are {len(session.attempts)}")
            parent, settings = session.attempts[order.parent - 1], self._with(order)
            match order.do:
                case "stop":
                    if task := self._decoding.get(order.parent):
                        task.cancel()
                    return order.parent
                case "append":
                    attempt = session.append(parent, order.text, settings, order.at)
                case "cut":
                    attempt = session.cut(parent, settings, order.at)
                case "again":
                    attempt = session.again(parent, settings, order.at)
        self._tell({"kind": "attempt", **self._record(attempt)})
        self._decoding[attempt.number] = asyncio.create_task(self._decode(attempt))
        return attempt.number

    def _with(self, order: PageOrder) -> Settings:
        settings = self._settings
        for name in ("budget", "effort", "temperature", "seed"):
            settings = changed(settings, name, getattr(order, name))
        return settings

    async def _decode(self, attempt: Attempt) -> None:
        try:
            await self._session.decode(attempt, self._hear)
        except EngineError as error:
            self.failure = error
            self.failed()
        finally:
            self._decoding.pop(attempt.number, None)
            if attempt.leaf is not None:
                self._log.add(attempt)
            self._tell({"kind": "attempt", **self._record(attempt)})

    def _hear(self, attempt: Attempt, part: Stretch) -> None:
        live = {"number": attempt.number, "thinking": attempt.thinking, "decoded": attempt.trace.decoded}
        self._tell({"kind": "part", **live, "part": part._asdict()})

    def _tell(self, event: dict[str, Any]) -> None:
        for queue in self._watchers:
            queue.put_nowait(event)

    def _record(self, attempt: Attempt) -> dict[str, Any]:
        parts = [part._asdict() for part in attempt.parts]
        return {**attempt.record(), "parts": parts, "running": attempt.number in self._decoding or not attempt.seconds}

    def _check(self, token: str) -> None:
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise HTTPException(403, "the page's address has a token: open the one that was printed")


def _nothing() -> None:
    """Nobody waits for a failure yet."""


async def serve(session: Session, settings: Settings, log: Log, port: int, say: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted; `say` is told its address. Raises EngineError and OSError."""
    served = Served(session, settings, log)
    with socket.create_server((HOST, port)) as listening:
        config = uvicorn.Config(
            served.app(), log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        served.failed = lambda: setattr(server, "should_exit", True)
        say(f"http://{HOST}:{listening.getsockname()[1]}/?token={served.token}")
        try:
            await server.serve(sockets=[listening])
        finally:
            await served.close()
    if served.failure is not None:
        raise served.failure
