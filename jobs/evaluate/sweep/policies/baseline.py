"""``baseline: true``: the model ends its thinking by itself, or it does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policy import Policy, Route

METHOD = "no forcing"


@dataclass(frozen=True)
class Baseline(Policy):
    """Nothing is forced."""

    @property
    def name(self) -> str:
        return METHOD

    @property
    def method(self) -> str:
        return METHOD

    @property
    def setting(self) -> str:
        return "auto"

    @property
    def route(self) -> Route:
        return Route(closing=None)


def policies(given: bool, sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    yield Baseline()


KIND = PolicyKind(
    value=bool,
    policies=policies,
    description="also the model's own end of thinking, with nothing forced",
    order=40,
    count=lambda given, before, sweep: int(given),
    curves=(METHOD,),
    default=False,
    cuts=False,
)
