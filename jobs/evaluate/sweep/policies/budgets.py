"""``budgets: [512, 1024, auto]``: thinking is cut at so many tokens and made to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policy import Policy, Route
from jobs.evaluate.sweep.values import Budgets, policy_budgets


@dataclass(frozen=True)
class Budget(Policy):
    """Thinking within a budget. Of None, the context's, it is the natural end that others are compared with."""

    METHOD: ClassVar[str] = "budget"

    budget: int | None = None

    @property
    def name(self) -> str:
        return self.setting

    @property
    def method(self) -> str:
        return self.METHOD

    @property
    def setting(self) -> str:
        return "auto" if self.budget is None else str(self.budget)

    @property
    def route(self) -> Route:
        return Route(self.budget)

    @property
    def place(self) -> float:
        return inf if self.budget is None else self.budget

    @property
    def asked(self) -> int | None:
        return self.budget


def policies(given: Sequence[int | str], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    """Ascending. What is cut where the context ends has no meaning on a server that only chats, and a rule that runs
    online stands by itself."""
    if sweep.online:
        return
    yield from (Budget(each) for each in policy_budgets(given) if each is not None or sweep.chat is None)


def chats(given: Sequence[int | str], sweep: SweepFields) -> Iterator[Refusal]:
    """Budgets go where the server's requests have a key for them."""
    for index, budget in enumerate(given):
        if budget == "auto":
            what = "auto makes the model answer where the context ends, and a server that only chats cannot be made to"
            yield (index,), f"{what}: leave it out; baseline: true is its own end of thinking"
        elif sweep.chat.budget is None:
            where = "name it in chat.budget, or leave budgets out"
            yield (index,), f"{budget} needs a key of the server's requests to go to: {where}"


def count(given: Sequence[int | str], before: int, sweep: SweepFields) -> int:
    return len(set(given))


KIND = PolicyKind(
    value=Budgets,
    policies=policies,
    description="tokens of thinking; auto: what the context leaves",
    order=10,
    count=count,
    curves=(Budget.METHOD,),
    default=("auto",),
    chats=chats,
)
