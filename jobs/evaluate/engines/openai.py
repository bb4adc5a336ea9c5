"""Decodes on an OpenAI-compatible server that completes token ids, such as ``vllm serve``.

Budget forcing needs ids in and ids out: the prompt is sent as ids, and ``return_token_ids`` asks for those decoded.
What comes back is outside data, so every event is checked against what was asked, and a server that ignores a budget or
a stop, changes the prompt, or sends what is no completion is an error, never a result.

The client retries what is refused or fails before it begins, with backoff, jitter and the server's own Retry-After. A
stream that is cut off later is continued from the tokens that came. The key is read from the environment of the
process that sends it, and is in no message: a server may say back what it was sent.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import httpx2
import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.evaluate.engines import Chunk, EngineError, EngineSpec, Request, ServedModel
from jobs.evaluate.engines.turns import Turns

CONNECT_SECONDS = 10.0
LONGEST_EVENT = 64 << 20
"""Bytes. The first event of a stream repeats the prompt's ids; no context makes it as long as this."""
SHOWN = 300
"""Characters of what a server says that go into a message."""
FORBIDDEN = -100
"""The bias that OpenAI's interface defines as a ban."""


class _Outside(BaseModel):
    """Keys that are not ours to know are left alone."""

    model_config = ConfigDict(strict=True, frozen=True)


Id = Annotated[int, Field(ge=0)]


class _Choice(_Outside):
    token_ids: list[Id]
    prompt_token_ids: list[Id] | None = None
    finish_reason: Literal["stop", "length"] | None = None


class _Failure(_Outside):
    message: str


class _Event(_Outside):
    """One event of a stream: a piece of the completion, how much was used, or what went wrong."""

    choices: list[_Choice] = Field(default=[], max_length=1)
    error: _Failure | None = None


class _Served(_Outside):
    id: str
    max_model_len: int | None = None


class _Models(_Outside):
    data: list[_Served]


Form = TypeVar("Form", bound=_Outside)


class _Cut(Exception):
    """The stream ended before the completion did."""


async def start(spec: EngineSpec) -> OpenaiEngine:
    """Finds the server and sees that it serves the model, with token ids and room for the context."""
    if spec.served is None:
        raise EngineError("engine openai needs to know where the model is served")
    async with AsyncExitStack() as stack:
        engine = OpenaiEngine(spec.served, spec.vocabulary)
        stack.push_async_callback(engine.close)
        await engine.check(spec.context_length)
        stack.pop_all()
    return engine


class OpenaiEngine:
    """A client of one server, behind the protocol of engines."""

    def __init__(self, served: ServedModel, vocabulary: int):
        self._served = served
        self._vocabulary = vocabulary
        self._padding = {str(token): FORBIDDEN for token in range(vocabulary, served.ids)}
        self._key = _key(served.server.key_variable)
        self._turns = Turns(served.server.requests)
        self._client = openai.AsyncOpenAI(
            base_url=served.server.url,
            # Without a key of ours the client would look for one in the environment, and send it.
            api_key=self._key or "none",
            max_retries=served.server.retries,
            timeout=openai.Timeout(None, connect=CONNECT_SECONDS),  # each wait for a token has its own deadline
        )

    @property
    def sequences(self) -> int | None:
        """The server's memory is its own affair."""
        return None

    async def check(self, context_length: int) -> None:
        """Raises EngineError unless the server can do what will be asked of it."""
        with self._explained():
            async with self._deadline():
                answer = await self._client.models.with_raw_response.list()
                models = self._read(_Models, answer.content).data
        found = next((model for model in models if model.id == self._served.name), None)
        if found is None:
            known = ", ".join(repr(model.id) for model in models)
            raise EngineError(self._shown(f"the server has no model {self._served.name!r}: it serves {known}"))
        if found.max_model_len is not None and found.max_model_len < context_length:
            raise EngineError(
                f"the server's context is {found.max_model_len} tokens, and {context_length} are needed: "
                "set context_length, or start the server with more"
            )
        async with aclosing(self.stream(Request((0,), 1, ()))) as probe:
            async for _ in probe:
                pass

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        async with self._turns.turn(request.priority):
            decoded: list[int] = []
            for attempt in itertools.count(1):
                end = None
                try:
                    async with aclosing(self._complete(_rest(request, decoded))) as chunks:
                        while chunk := await self._next(chunks):
                            decoded += chunk.tokens
                            end = chunk.end
                            yield chunk
                    return
                except _Cut as cut:
                    if end is not None:
                        return
                    if len(decoded) == request.max_tokens:  # cut off between the last token and its end
                        yield Chunk([], "length")
                        return
                    if attempt > self._served.server.retries:
                        raise EngineError(
                            f"the server cut off a request {attempt} times, after {len(decoded)} tokens: {cut}"
                        ) from None

    async def close(self) -> None:
        """Closes the connections; what was under way on them ends on the server too."""
        await self._client.close()

    async def _next(self, chunks: AsyncGenerator[Chunk, None]) -> Chunk | None:
        with self._explained():
            async with self._deadline():
                return await anext(chunks, None)

    async def _complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """One call of the server. Raises _Cut when its answer does not end."""
        greedy = request.sampling.temperature == 0
        # All of it is said, because a server may have defaults of its own.
        extra: dict[str, Any] = {
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(request.stop),
            "ignore_eos": True,  # `stop` says all of it
            "min_tokens": int(request.forbid_stop_first),
            "add_special_tokens": False,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        call = self._client.completions.with_streaming_response.create(
            model=self._served.name,
            prompt=list(request.prompt),
            max_tokens=request.max_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            seed=openai.omit if greedy else request.generator_seed,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            logit_bias=self._padding or openai.omit,
            stream=True,
            extra_body=extra,
        )
        count = 0
        ended = False
        async with call as response, aclosing(_events(response.iter_bytes())) as events:
            kind = response.headers.get("content-type", "nothing")
            if not kind.startswith("text/event-stream"):
                raise EngineError(
                    self._shown(f"the server answered with {kind} where a stream of events was asked for")
                )
            async for data in events:
                if data == b"[DONE]":
                    if not ended:
                        raise EngineError("the server ended a completion without saying why")
                    continue  # a connection that was read to its end can be used again
                event = self._read(_Event, data)
                if event.error is not None:
                    raise EngineError(self._shown(f"the server failed while decoding: {event.error.message}"))
                for choice in event.choices:
                    if ended:
                        raise EngineError("the server went on after the end of a completion")
                    chunk = _checked(choice, request, count, self._vocabulary)
                    count += len(chunk.tokens)
                    ended = chunk.end is not None
                    if chunk.tokens or ended:  # anything else is no sign of life
                        yield chunk
        if not ended:
            raise _Cut("its stream just ended")

    def _read(self, form: type[Form], data: bytes) -> Form:
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
            raise EngineError(self._shown(f"the server sent something else than was asked for: {said}")) from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The client's errors as ours, without what they hold on to: requests, and with them the key."""
        try:
            yield
        except openai.APIStatusError as error:
            said = f"the server refused a request with {error.status_code}: {error.response.text}"
            raise EngineError(self._shown(said)) from None
        except openai.APIConnectionError as error:
            reason = str(error.__cause__ or error) or type(error.__cause__).__name__
            raise EngineError(self._shown(f"no answer from {self._served.server.url}: {reason}")) from None
        except httpx2.TransportError as error:
            raise _Cut(self._shown(str(error) or type(error).__name__)) from None
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise EngineError(self._shown(f"the server's answer cannot be read: {error}")) from None

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        seconds = self._served.server.deadline
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise EngineError(f"the server sent nothing for {seconds:g} s, the deadline of resources.server") from None

    def _shown(self, text: str) -> str:
        """One line, not too long, without the key."""
        line = " ".join((text.replace(self._key, "(the key)") if self._key else text).split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


def _rest(request: Request, decoded: list[int]) -> Request:
    """What is left of `request` once `decoded` is there."""
    return replace(
        request,
        prompt=(*request.prompt, *decoded),
        max_tokens=request.max_tokens - len(decoded),
        forbid_stop_first=request.forbid_stop_first and not decoded,
        position=request.position + len(decoded),
    )


def _checked(choice: _Choice, request: Request, count: int, vocabulary: int) -> Chunk:
    """What a server says came next, after `count` tokens. Raises EngineError when it did not do as it was asked."""
    tokens, end = choice.token_ids, choice.finish_reason
    if choice.prompt_token_ids is not None and tuple(choice.prompt_token_ids) != request.prompt:
        raise EngineError(
            f"the server changed the prompt: {len(request.prompt)} ids were sent, {len(choice.prompt_token_ids)} taken"
        )
    if end == "stop":
        if not tokens or tokens[-1] not in request.stop:
            raise EngineError(f"the server stopped at {tokens[-1:] or 'nothing'}, which is none of its stops")
        tokens = tokens[:-1]
        if request.forbid_stop_first and count + len(tokens) == 0:
            raise EngineError("the server ignored min_tokens: a stop came first")
    count += len(tokens)
    if count > request.max_tokens:
        raise EngineError(f"the server ignored max_tokens: {count} tokens came, of {request.max_tokens} at most")
    if end == "length" and count < request.max_tokens:
        raise EngineError(f"the server gave up after {count} of {request.max_tokens} tokens: is its context shorter?")
    for token in tokens:
        if token >= vocabulary:
            raise EngineError(
                f"the server decoded id {token}, and the tokenizer has {vocabulary}: is it the same model?"
            )
        if token in request.stop:
            raise EngineError(f"the server ignored stop_token_ids: it went on after {token}")
    return Chunk(tokens, end)


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
            f"resources.server.key_variable: what is in {variable} is no key: it has spaces or control characters"
        )
    return key
