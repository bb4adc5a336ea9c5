"""Asks a server that only chats, and sees that what comes back can be accounted for.

Answers are streamed, so that a server that is silent is noticed while others think for minutes. A stream that is cut
off cannot be continued in text, so it is asked for again; so is whatever else may go better another time, with backoff
and up to the server's ``retries``. What is refused for good is not.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from openai.types.chat import ChatCompletionMessageParam
from pydantic import Field, JsonValue

from jobs.evaluate.chat.gate import Gate
from jobs.evaluate.engines.connection import Connection, Cut, Failed, Outside, RefusedRequest
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.engines.server import Server

_TOO_MANY = (429, 503, 529)
"""What servers answer that are asked too much."""
_ANOTHER_TIME = (408, 409, 425, *_TOO_MANY)
"""What they answer, below 500, to what may be asked again."""
FIRST_WAIT = 0.5
"""Seconds before a request is made again; each further wait is twice as long."""
LONGEST_WAIT = 60.0
"""Seconds, however long a server asks for."""

End = Literal["stop", "length", "content_filter"]
TokenCount = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Answer:
    """What a server answered, and what it says that took."""

    text: str
    thinking_tokens: int
    answer_tokens: int
    end: End
    thinking: str = ""
    """As far as the server shows it."""
    model: str = ""
    """Which it says that answered."""
    prompt_tokens: int = 0
    """That the server counted; 0 where it does not say."""


@dataclass
class Bill:
    """What one time of asking comes to: nothing that is known, until there is an answer."""

    answer: Answer | None = None


Pay = Callable[[], AbstractAsyncContextManager[Bill]]


class Unaccountable(EngineError):
    """An answer came, and the server does not say what it took, or says what cannot be: it will not another time."""


class _Delta(Outside):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """Servers show thinking under one of these names, or not at all."""


class _Choice(Outside):
    delta: _Delta = _Delta()
    finish_reason: End | None = None


class _Details(Outside):
    reasoning_tokens: TokenCount | None = None


class _Usage(Outside):
    prompt_tokens: TokenCount = 0
    completion_tokens: TokenCount
    completion_tokens_details: _Details | None = None
    reasoning_tokens: TokenCount | None = None
    """Where SGLang says it."""


class _Event(Outside):
    """One event of a stream: a piece of the answer, what all of it took, or what went wrong."""

    choices: list[_Choice] = Field(default=[], max_length=1)
    model: str | None = None
    usage: _Usage | None = None
    error: Failed | None = None


class ChatClient:
    """One model on one server."""

    def __init__(self, server: Server, model: str, system: str | None = None, tags: bool = False):
        """`tags`: thinking stands in the text, up to ``</think>``."""
        self._tags = tags
        self._model = model
        self._system = system
        self._connection = Connection(server)
        self._gate = Gate(server.requests)

    async def ask(self, question: str, how: Mapping[str, JsonValue], pay: Pay) -> Answer:
        """The answer to `question`; `how` are the keys of the request that say how to think. Each time that the server
        is asked is within a `pay`.

        Raises EngineError when the server refuses, fails, is silent, or sends what cannot be accounted for.
        """
        retries = self._connection.server.retries
        for attempt in itertools.count(1):
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
            try:
                async with self._gate.request() as era:
                    try:
                        async with pay() as bill:
                            answer = bill.answer = await self._ask(question, how)
                    except RefusedRequest as refused:
                        if refused.status in _TOO_MANY:
                            self._gate.too_many(era)
                        raise
                    self._gate.answered()
                    return answer
            except Cut as cut:
                if attempt > retries:
                    raise EngineError(f"the server cut off an answer {attempt} times: {cut}") from None
            except EngineError as error:
                if attempt > retries or not _passes(error):
                    raise
                if isinstance(error, RefusedRequest) and error.after is not None:
                    wait = min(error.after, LONGEST_WAIT)
            await asyncio.sleep(wait)
        raise AssertionError("counting does not end")

    async def close(self) -> None:
        """Closes the connections."""
        await self._connection.close()

    async def _ask(self, question: str, how: Mapping[str, JsonValue]) -> Answer:
        text: list[str] = []
        thought: list[str] = []
        model = ""
        end: End | None = None
        usage: _Usage | None = None
        async with aclosing(self._events(question, how)) as events:
            while event := await self._next(events):
                if event.error is not None:
                    said = f"the server failed while it answered: {event.error.message}"
                    raise EngineError(self._connection.shown(said))
                for choice in event.choices:
                    if end is not None and choice.delta.content:
                        raise EngineError("the server went on after the end of an answer")
                    text.append(choice.delta.content or "")
                    thought.append(choice.delta.reasoning_content or choice.delta.reasoning or "")
                    end = choice.finish_reason or end
                usage = event.usage or usage
                model = event.model or model
        if self._tags:
            return replace(_told_apart("".join(text), end, usage), model=model)
        answer = replace(_accounted("".join(text), end, usage), thinking="".join(thought), model=model)
        if answer.thinking and not answer.thinking_tokens:
            raise Unaccountable(
                "the server shows thinking and counts no tokens of it: is its reasoning parser the right one?"
            )
        return answer

    async def _events(self, question: str, how: Mapping[str, JsonValue]) -> AsyncGenerator[_Event, None]:
        """One call of the server. Raises Cut when its answer does not end."""
        connection = self._connection
        asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
        if self._system is not None:
            asked.insert(0, {"role": "system", "content": self._system})
        client = connection.client.with_options(max_retries=0)  # retries are ours, by cause
        call = client.chat.completions.with_streaming_response.create(
            model=self._model,
            messages=asked,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=how,
        )
        async with aclosing(connection.events(call)) as events:
            async for data in events:
                if data == b"[DONE]":
                    return
                yield connection.read(_Event, data)
        raise Cut("its stream just ended")

    async def _next(self, events: AsyncGenerator[_Event, None]) -> _Event | None:
        with self._connection.explained():
            async with self._connection.deadline():
                return await anext(events, None)


def _accounted(text: str, end: End | None, usage: _Usage | None) -> Answer:
    """An answer that is whole. Raises EngineError when it does not say how it ended, or what it took."""
    if end is None:
        raise EngineError("the server ended an answer without saying why")
    if usage is None:
        raise Unaccountable(
            "the server does not report the tokens of an answer: it must support stream_options.include_usage"
        )
    thinking = (usage.completion_tokens_details or _Details(reasoning_tokens=usage.reasoning_tokens)).reasoning_tokens
    if thinking is None:
        raise Unaccountable(
            "the server does not count its thinking (usage.completion_tokens_details.reasoning_tokens), so there is "
            "nothing to plot answers against: vLLM does with --reasoning-parser"
        )
    if thinking > usage.completion_tokens:
        raise Unaccountable(f"the server counts {thinking} tokens of thinking among {usage.completion_tokens} in all")
    answer_tokens = usage.completion_tokens - thinking
    return Answer(text, thinking, answer_tokens, end, prompt_tokens=usage.prompt_tokens)


def _told_apart(text: str, end: End | None, usage: _Usage | None) -> Answer:
    """An answer whose thinking stands in its text. A server counts both as one, so each has the share of the tokens
    that it has of the text. What opens thinking and does not close it is all thinking. Raises as `_accounted`."""
    if end is None:
        raise EngineError("the server ended an answer without saying why")
    if usage is None:
        raise Unaccountable(
            "the server does not report the tokens of an answer: it must support stream_options.include_usage"
        )
    before, closed, after = text.partition("</think>")
    opened = text.lstrip().startswith("<think>")
    if not closed and not opened:
        before, after = "", text
    thought = before.strip().removeprefix("<think>").strip()
    tokens = round(usage.completion_tokens * len(before) / max(1, len(before) + len(after)))
    return Answer(after.strip(), tokens, usage.completion_tokens - tokens, end, thought, "", usage.prompt_tokens)


def _passes(error: EngineError) -> bool:
    """Whether asking again may go better: of what is refused, only where the server is busy or broken."""
    if isinstance(error, RefusedRequest):
        return error.status in _ANOTHER_TIME or error.status >= 500
    return not isinstance(error, Unaccountable)
