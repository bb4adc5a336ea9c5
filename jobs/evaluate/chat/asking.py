"""Asks a chat server for all that is missing, and keeps each answer as soon as it is there.

One request that fails for good costs none of the others: they are asked and kept, and only then the step ends with what
went wrong. Where the server refuses whoever asks, or fails before it ever answered, nothing more is asked of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from jobs.evaluate.chat.client import Answer, ChatClient, Unaccountable
from jobs.evaluate.chat.config import Chat
from jobs.evaluate.chat.replies import Asked, Replies
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.connection import RefusedRequest
from jobs.evaluate.engines.protocol import EngineError
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.usage import Held

_NOBODY = (401, 402, 403, 404)
"""What servers answer whatever is asked: no such key, no money, not allowed, no such model."""
_HOPELESS = 3
"""Requests that fail before any has been answered."""


def ask(
    config: EvaluateConfig,
    chat: Chat,
    context: StepContext,
    missing: Mapping[Asked, str],
    replies: Replies,
    total: int,
) -> None:
    """Asks for everything in `missing`, of `total` answers. Raises StepError with the first thing that went wrong for
    good; all that was answered is kept."""
    context.progress(total - len(missing), total, "answers")
    if missing:
        failed = asyncio.run(_Asking(config, chat, context, missing, replies, total).all())
        if failed:
            others = f" ({len(failed):,} of {len(missing):,} requests failed)" if len(missing) > 1 else ""
            raise StepError(f"engine: {failed[0]}{others}")


class _Asking:
    """What is under way."""

    def __init__(
        self,
        config: EvaluateConfig,
        chat: Chat,
        context: StepContext,
        missing: Mapping[Asked, str],
        replies: Replies,
        total: int,
    ):
        server = config.resources.server
        assert server is not None, "a chat server has an address"
        assert config.served_model is not None, "and a name for its model"
        self._requests = min(server.requests, len(missing))
        self._client = ChatClient(server, config.served_model, config.system, chat.think_tags)
        self._chat = chat
        self._context = context
        self._left: Iterator[tuple[Asked, str]] = iter(missing.items())
        self._replies = replies
        self._done, self._total = total - len(missing), total
        self._fresh: list[tuple[Asked, Answer]] = []
        self._arrived = asyncio.Event()
        self._failed: list[EngineError] = []
        self._answered = 0
        self._price = server.price
        self._prompts = self._tokens = 0

    async def all(self) -> list[EngineError]:
        """What failed."""
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep_on())
                async with asyncio.TaskGroup() as asking:
                    for _ in range(self._requests):
                        asking.create_task(self._ask_on())
                keeping.cancel()
        finally:
            self._keep()
            await self._client.close()
        return self._failed

    async def _ask_on(self) -> None:
        for asked, text in self._left:
            if self._is_hopeless():
                return
            try:
                answer = await self._client.ask(text, self._chat.request(asked.effort, asked.budget))
            except EngineError as error:
                self._failed.append(error)
                continue
            self._answered += 1
            self._fresh.append((asked, answer))
            self._arrived.set()

    def _is_hopeless(self) -> bool:
        if any(isinstance(error, Unaccountable) for error in self._failed):
            return True
        if any(isinstance(error, RefusedRequest) and error.status in _NOBODY for error in self._failed):
            return True
        return not self._answered and len(self._failed) >= _HOPELESS

    async def _keep_on(self) -> None:
        """Keeps what has arrived at once: what arrives while that is being written is kept together with it."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            self._keep()
            self._context.progress(self._done, self._total, "answers")

    def _keep(self) -> None:
        """Keeps what has arrived, and says what it cost: max_cost is held against that."""
        self._replies.add(self._fresh)
        for _, answer in self._fresh:
            self._prompts += answer.prompt_tokens
            self._tokens += answer.thinking_tokens + answer.answer_tokens
        if self._price is not None and self._fresh:
            usd = self._price.usd(self._prompts, self._tokens)
            self._context.hold(Held(devices=0, device_seconds=0, usd=usd, tokens=self._tokens))
        self._done += len(self._fresh)
        self._fresh = []
