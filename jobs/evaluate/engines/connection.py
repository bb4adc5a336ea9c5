"""The way to an OpenAI-compatible server: one client, its key, its deadline, and what goes wrong on it as one error.

The client retries what is refused or fails before it begins, with backoff, jitter and the server's own Retry-After.
What comes back is outside data: it is read by forms that say what is expected. The key is read from the environment of
the process that sends it, and is in no message: a server may say back what it was sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx2
import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.engines.server import Server

CONNECT_SECONDS = 10.0
LONGEST_EVENT = 64 << 20
"""Bytes. The first event of a stream repeats the prompt's ids; no context makes it as long as this."""
SHOWN = 300
"""Characters of what a server says that go into a message."""


class Outside(BaseModel):
    """What a server sends. Keys that are not ours to know are left alone."""

    model_config = ConfigDict(strict=True, frozen=True)


Form = TypeVar("Form", bound=Outside)


class Failed(Outside):
    """What went wrong on the server."""

    message: str


class RefusedRequest(EngineError):
    """The server answered a request with an error, by its HTTP status."""

    def __init__(self, message: str, status: int, after: float | None):
        super().__init__(message)
        self.status = status
        self.after = after
        """Seconds that it asks to wait; None where it does not say."""


class Cut(Exception):
    """A stream ended before what it told did."""


class Connection:
    """A client of one server."""

    def __init__(self, server: Server):
        self.server = server
        self._key = _key(server.key_variable)
        self.client = openai.AsyncOpenAI(
            base_url=server.url,
            # Without a key of ours the client would look for one in the environment, and send it.
            api_key=self._key or "none",
            max_retries=server.retries,
            timeout=openai.Timeout(None, connect=CONNECT_SECONDS),  # each wait for a token has its own deadline
        )

    async def close(self) -> None:
        """Ends what is under way, on the server too."""
        await self.client.close()

    def read(self, form: type[Form], data: bytes) -> Form:
        """`data` as `form` has it. Raises EngineError when it is something else."""
        try:
            return form.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] == "missing" and first["loc"][-1] == "token_ids":
                raise EngineError(
                    "the server gives no token ids: it must know return_token_ids, as vLLM's does"
                ) from None
            place = ".".join(map(str, first["loc"]))
            said = f"{place or 'all of it'}: {first['msg']}: {data.decode(errors='replace')}"
            raise EngineError(self.shown(f"the server sent something other than what was asked for: {said}")) from None

    async def events(self, call: Any) -> AsyncGenerator[bytes, None]:
        """The data of each event of the stream that `call` answers with. Raises EngineError for another answer."""
        async with call as response, aclosing(_events(response.iter_bytes())) as events:
            kind = response.headers.get("content-type", "nothing")
            if not kind.startswith("text/event-stream"):
                raise EngineError(self.shown(f"the server answered with {kind} where a stream of events was asked for"))
            async for data in events:
                yield data

    @contextmanager
    def explained(self) -> Iterator[None]:
        """The client's errors as ours, without what they hold on to: requests, and with them the key."""
        try:
            yield
        except openai.APIStatusError as error:
            said = f"the server refused a request with {error.status_code}: {error.response.text}"
            raise RefusedRequest(self.shown(said), error.status_code, _seconds(error.response.headers)) from None
        except openai.APIConnectionError as error:
            reason = str(error.__cause__ or error) or type(error.__cause__).__name__
            raise EngineError(self.shown(f"no answer from {self.server.url}: {reason}")) from None
        except httpx2.TransportError as error:
            raise Cut(self.shown(str(error) or type(error).__name__)) from None
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise EngineError(self.shown(f"the server's answer cannot be read: {error}")) from None

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """For one wait. Raises EngineError when it takes longer than the server is given."""
        seconds = self.server.deadline
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise EngineError(f"the server sent nothing for {seconds:g} s, the deadline of resources.server") from None

    def shown(self, text: str) -> str:
        """One line, not too long, without the key."""
        line = " ".join((text.replace(self._key, "(the key)") if self._key else text).split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


async def _events(blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event of a stream, of one line each. (The client's own decoder makes objects unchecked.)"""
    rest = b""
    async for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LONGEST_EVENT:
            raise EngineError(f"the server sent {len(rest)} bytes without an end of line")
        for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").strip()


def _seconds(headers: Mapping[str, str]) -> float | None:
    """What Retry-After says, where that is a number."""
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


def _key(variable: str | None) -> str | None:
    """The key in the environment variable `variable`; it is in no error."""
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise EngineError(
            f"resources.server.key_variable: the environment variable {variable} is not set where replicas run"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise EngineError(
            f"resources.server.key_variable: what is in {variable} is not a key: it has spaces or control characters"
        )
    return key
