"""What asking a server may cost, so that ``max_cost`` is not passed: a request is made while there is money for the
most that it can come to, beside the most of all that are under way.

A request that the server refuses, or never got, costs nothing. One that was cut off, stalled or made no sense may be
charged for, and nobody says how much: it stays reckoned at its most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cluster.catalogue import in_usd
from jobs.evaluate.chat.client import Bill
from jobs.evaluate.engines.connection import RefusedRequest, Unreached
from jobs.evaluate.engines.server import Price
from orchestrator.job.errors import OutOfMoney
from orchestrator.job.usage import Held

AROUND = 200
"""Tokens that a server may write around a prompt, whose own are no more than its bytes."""


class Purse:
    """What there is for one attempt at a step, in USD."""

    def __init__(self, price: Price | None, left: float | None, tell: Callable[[Held], None]):
        """`left` is None where nothing limits it. `tell` is called before a request is made, and when it ends."""
        self._price = price
        self._left = left
        self._tell = tell
        self._spent = self._under_way = 0.0
        self._tokens = self._made = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def request(self, prompt: str, limit: int | None) -> AsyncIterator[Bill]:
        """One request, which the server answers with at most `limit` tokens. The answer is put on the bill.

        Waits while what is under way may take all that is left. Raises OutOfMoney where nothing is, and there is not
        enough.
        """
        if self._price is None:
            yield Bill()
            return
        asked = AROUND + len(prompt.encode())
        most = self._price.usd(asked, limit or 0)
        async with self._changed:
            while not self._affords(most):
                if not self._made:
                    raise OutOfMoney(
                        f"a request may cost {in_usd(most)}, and of the {in_usd(self._left or 0)} that were left for "
                        f"it {in_usd(self._spent + self._under_way)} may be spent"
                    )
                await self._changed.wait()
            self._made += 1
            self._under_way += most
            self._say()
        bill = Bill()
        refused = False
        try:
            yield bill
        except (RefusedRequest, Unreached):
            refused = True
            raise
        finally:
            async with self._changed:
                self._made -= 1
                if bill.answer is not None:
                    decoded = bill.answer.thinking_tokens + bill.answer.answer_tokens
                    self._spent += self._price.usd(bill.answer.prompt_tokens or asked, decoded)
                    self._tokens += decoded
                if refused or bill.answer is not None:
                    self._under_way -= most
                self._say()
                self._changed.notify_all()

    def _affords(self, most: float) -> bool:
        return self._left is None or self._spent + self._under_way + most <= self._left

    def _say(self) -> None:
        self._tell(Held(0, 0, self._spent, self._tokens, max(0.0, self._under_way)))
