"""``stop_strings: ["Final Answer", "In conclusion"]``: thinking ends at the first of them, and is made to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policy import Mark, Policy, Route
from jobs.evaluate.sweep.values import Texts, once

METHOD = "stop strings"


@dataclass(frozen=True)
class StopStrings(Policy):
    """Thinking to where one of some strings is written, for the first time or a later one: its last words."""

    strings: tuple[str, ...]
    number: int = 0
    """Times before."""

    @property
    def name(self) -> str:
        return f"{METHOD} {self.setting}"

    @property
    def method(self) -> str:
        return METHOD

    @property
    def setting(self) -> str:
        written = ", ".join(f'"{string}"' for string in self.strings)
        return f"{written}, time {self.number + 1}" if self.number else written

    @property
    def place(self) -> float:
        return self.number

    @property
    def route(self) -> Route:
        return Route(mark=Mark("stop", self.strings, self.number))


def policies(given: Sequence[str], sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    yield StopStrings(tuple(once(given)))


def count(given: Sequence[str], before: int, sweep: SweepFields) -> int:
    return 1


def chats(given: Sequence[str], sweep: SweepFields) -> Iterator[Refusal]:
    yield (), "needs thinking that can be cut, and a server that only chats shows none: leave it out"


KIND = PolicyKind(
    value=Texts,
    policies=policies,
    description="thinking ends at the first of these",
    order=35,
    count=count,
    curves=(METHOD,),
    chats=chats,
)
