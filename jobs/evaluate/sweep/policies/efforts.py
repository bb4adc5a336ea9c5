"""``efforts: [low, high]``: the model is told how hard to think; at ``none``, not to think.

A chat server is told with the request, and nothing is forced. On open weights the chat template says it
(:mod:`jobs.evaluate.sweep.effort`), and the budgets and extensions are there once more at each effort.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, PlainSerializer

from jobs.evaluate.sweep.kinds import UNTOLD, PolicyKind, SweepFields
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policy import Policy, Root, Route
from jobs.evaluate.sweep.values import filled
from jobs.evaluate.sweep.variation import Variation
from jobs.template import UNMARKED

METHOD = "reasoning effort"

EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[EffortName, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Ascending."""


def _ascending(efforts: Iterable[EffortName]) -> list[EffortName]:
    """Each once."""
    return sorted(set(efforts), key=EFFORTS.index)


@dataclass(frozen=True)
class Effort(Policy):
    """Nothing is forced, at an effort."""

    effort: EffortName

    @property
    def name(self) -> str:
        return f"{METHOD} {self.effort}"

    @property
    def method(self) -> str:
        return METHOD

    @property
    def setting(self) -> str:
        return self.effort

    @property
    def root(self) -> Root:
        return Root(effort=self.effort)

    @property
    def route(self) -> Route:
        return Route(closing=None)


@dataclass(frozen=True)
class AtEffort(Variation):
    """Its base, at an effort."""

    effort: EffortName

    @property
    def condition(self) -> str:
        return f"effort {self.effort}"

    @property
    def root(self) -> Root:
        return replace(self.base.root, effort=self.effort)


def policies(given: Sequence[EffortName], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    """At each effort the baseline where that is asked for, and what is forced; at none there is nothing to force."""
    for effort in _ascending(given):
        if sweep.chat is not None or effort == "none" or Baseline() in before:
            yield Effort(effort)
        if sweep.chat is None and effort != "none":
            yield from (AtEffort(policy, effort) for policy in before if policy.route.forced)


def count(given: Sequence[EffortName], before: int, sweep: SweepFields) -> int:
    return len(set(given)) * (1 if sweep.chat is not None else before)


def check(given: Sequence[EffortName], sweep: SweepFields) -> None:
    if sweep.chat is None and sweep.style == UNMARKED:
        raise ValueError(f"efforts: {UNTOLD}")


KIND = PolicyKind(
    value=Annotated[tuple[EffortName, ...], AfterValidator(filled), PlainSerializer(_ascending)],
    policies=policies,
    description="how hard the model is told to think",
    order=50,
    count=count,
    curves=(METHOD,),
    cuts=False,
    check=check,
)
