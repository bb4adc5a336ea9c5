"""Decodes on an OpenAI-compatible server that completes token ids: ``vllm serve``, SGLang.

Budget forcing needs ids in and ids out: the prompt is sent as ids, and ``return_token_ids`` asks for those decoded.
What comes back is outside data, so every event is checked against what was asked, and a server that ignores a budget or
a stop, changes the prompt, or sends what is no completion is an error, never a result. A stream that is cut off is
continued from the tokens that came.

SGLang has its own ideas of two parameters. With ``ignore_eos`` it looks for no stop at all, so it is not told so; where
it then stops at an end of its own, that is seen. Its repetition penalty counts what a request wrote and nothing of the
prompt, so a trace that is continued would be another: it is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Any, Literal

import openai
from pydantic import Field

from jobs.evaluate.engines.connection import Connection, Cut, Failed, Outside
from jobs.evaluate.engines.priority_semaphore import PrioritySemaphore
from jobs.evaluate.engines.protocol import Chunk, EngineError, EngineSpec, Request, ServedModel

FORBIDDEN = -100
"""The bias that OpenAI's interface defines as a ban."""
SGLANG = "sglang"
"""Who owns the models of such a server, as it lists them."""


Id = Annotated[int, Field(ge=0)]


class _Choice(Outside):
    token_ids: list[Id]
    prompt_token_ids: list[Id] | None = None
    finish_reason: Literal["stop", "length"] | None = None


class _Event(Outside):
    """One event of a stream: a piece of the completion, how much was used, or what went wrong."""

    choices: list[_Choice] = Field(default=[], max_length=1)
    error: Failed | None = None


class _Served(Outside):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None


class _Models(Outside):
    data: list[_Served]


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
        self._semaphore = PrioritySemaphore(served.server.requests)
        self._connection = Connection(served.server)
        self._sglang = False

    @property
    def cache_tokens(self) -> int | None:
        """The server's memory is its own affair."""
        return None

    async def check(self, context_length: int) -> None:
        """Raises EngineError unless the server can do what will be asked of it."""
        connection = self._connection
        with connection.explained():
            async with connection.deadline():
                answer = await connection.client.models.with_raw_response.list()
                models = connection.read(_Models, answer.content).data
        served = next((model for model in models if model.id == self._served.name), None)
        if served is None:
            known = ", ".join(repr(model.id) for model in models)
            raise EngineError(connection.shown(f"the server has no model {self._served.name!r}: it serves {known}"))
        if served.max_model_len is not None and served.max_model_len < context_length:
            raise EngineError(
                f"the server's context is {served.max_model_len} tokens, and {context_length} are needed: "
                "set context_length, or start the server with more"
            )
        self._sglang = served.owned_by == SGLANG
        async with aclosing(self.stream(Request((0,), 1, ()))) as probe:
            async for _ in probe:
                pass

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        async with self._semaphore.held(request.priority):
            decoded: list[int] = []
            for attempt in itertools.count(1):
                end = None
                try:
                    async with aclosing(self._complete(request.after(decoded))) as chunks:
                        while chunk := await self._next(chunks):
                            decoded += chunk.tokens
                            end = chunk.end
                            yield chunk
                    return
                except Cut as cut:
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
        await self._connection.close()

    async def _next(self, chunks: AsyncGenerator[Chunk, None]) -> Chunk | None:
        with self._connection.explained():
            async with self._connection.deadline():
                return await anext(chunks, None)

    async def _complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """One call of the server. Raises Cut when its answer does not end."""
        if self._sglang and request.sampling.repetition_penalty != 1:
            raise EngineError(
                "repetition_penalty: SGLang counts what one request writes, not whole traces: leave it out"
            )
        greedy = request.sampling.temperature == 0
        seed = request.seed if self._served.server.seeds_by_position else request.generator_seed
        # All of it is said, because a server may have defaults of its own.
        extra: dict[str, Any] = {
            "top_k": request.sampling.top_k or -1,
            "min_p": request.sampling.min_p,
            "repetition_penalty": request.sampling.repetition_penalty,
            "stop_token_ids": list(request.stop),
            "ignore_eos": not (self._sglang and request.stop),  # `stop` says all of it
            "min_tokens": int(request.forbid_stop_first),
            "add_special_tokens": False,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        call = self._connection.client.completions.with_streaming_response.create(
            model=self._served.name,
            prompt=list(request.prompt),
            max_tokens=request.max_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            seed=openai.omit if greedy else seed,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            logit_bias=self._padding | {str(token): FORBIDDEN for token in request.forbidden} or openai.omit,
            stream=True,
            extra_body=extra,
        )
        count = 0
        ended = False
        async with aclosing(self._connection.events(call)) as events:
            async for data in events:
                if data == b"[DONE]":
                    if not ended:
                        raise EngineError("the server ended a completion without saying why")
                    continue  # a connection that was read to its end can be used again
                event = self._connection.read(_Event, data)
                if event.error is not None:
                    raise EngineError(
                        self._connection.shown(f"the server failed while decoding: {event.error.message}")
                    )
                for choice in event.choices:
                    if ended:
                        raise EngineError("the server went on after the end of a completion")
                    chunk = _checked(choice, request, count, self._vocabulary)
                    count += len(chunk.tokens)
                    ended = chunk.end is not None
                    if chunk.tokens or ended:  # anything else is no sign of life
                        yield chunk
        if not ended:
            raise Cut("its stream just ended")


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
