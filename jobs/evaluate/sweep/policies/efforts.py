"""``efforts: [low, high]``: the model is told how hard to think."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, PlainSerializer

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policy import Policy, Root, Route
from jobs.evaluate.sweep.values import filled

METHOD = "reasoning effort"

EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
EFFORTS: tuple[EffortName, ...] = ("none", "minimal", "low", "medium", "high", "xhigh")
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


def policies(given: Sequence[EffortName], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    return map(Effort, _ascending(given))


def count(given: Sequence[EffortName]) -> int:
    return len(set(given))


def check(given: Sequence[EffortName], sweep: SweepFields) -> None:
    if sweep.chat is None:
        raise ValueError("efforts: are for a server that only chats: give chat: {}, or leave them out")


KIND = PolicyKind(
    value=Annotated[tuple[EffortName, ...], AfterValidator(filled), PlainSerializer(_ascending)],
    policies=policies,
    description="reasoning efforts, of a server that only chats",
    order=50,
    count=count,
    curves=(METHOD,),
    cuts=False,
    check=check,
)
