"""``step_budgets: [4, 16]``: thinking is cut where the header of one more step begins, and made to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policy import TOKENS_PER_STEP, Mark, Policy, Route
from jobs.evaluate.sweep.values import Limits, ascending

METHOD = "step budget"


@dataclass(frozen=True)
class StepBudget(Policy):
    """Thinking of so many steps, in models trained to write a header before each."""

    steps: int

    @property
    def name(self) -> str:
        return f"{METHOD} {self.steps}"

    @property
    def method(self) -> str:
        return METHOD

    @property
    def setting(self) -> str:
        return str(self.steps)

    @property
    def route(self) -> Route:
        return Route(mark=Mark("step", number=self.steps))

    @property
    def asked(self) -> int:
        return self.steps

    @property
    def bounds(self) -> tuple[float, float]:
        return 0, TOKENS_PER_STEP * self.steps


def policies(given: Sequence[int], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    return map(StepBudget, ascending(given))


def count(given: Sequence[int], before: int, sweep: SweepFields) -> int:
    return len(set(given))


def check(given: Sequence[int], sweep: SweepFields) -> None:
    if sweep.style is None or sweep.style.step is None:
        raise ValueError(
            'step_budgets: needs the header of a step: give template: {name: think, step: "<step>"}, with yours'
        )


def chats(given: Sequence[int], sweep: SweepFields) -> Iterator[Refusal]:
    yield (), "needs thinking that can be cut, and a server that only chats shows none: leave it out"


KIND = PolicyKind(
    value=Limits,
    policies=policies,
    description="steps of thinking; the template needs their header",
    order=30,
    count=count,
    curves=(METHOD,),
    check=check,
    chats=chats,
)
