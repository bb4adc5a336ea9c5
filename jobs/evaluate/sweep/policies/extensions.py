"""``extensions: {strings: [Wait], counts: [1, 2], budgets: [auto]}``: the end of thinking is ignored, it goes on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields, taken
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy, Route, ordered
from jobs.evaluate.sweep.values import Budgets, Counts, filled, once, policy_budgets
from orchestrator.job.strict_model import StrictModel

NOTHING = "nothing"
"""What the curve of the empty string is called."""
READS_LIKE_ANOTHER = re.compile(r'"| in \d+$|\)$|@k\b')
"""Curves of policies, and those of votes: pass@k."""

MOST_EXTENDED = 4000
"""The counts of all policies with extensions, added up: what accounting for one trace of each takes."""


class Extensions(StrictModel):
    """Strings that replace the model's own end of thinking, each tried at each count."""

    strings: Annotated[tuple[str, ...], AfterValidator(filled), PlainSerializer(once)] = Field(
        description='"" only forbids the end'
    )
    counts: Counts
    budgets: Budgets = Field(default=("auto",), description="the thinking budgets within which they are tried")


@dataclass(frozen=True)
class Extension(Policy):
    """At each of the first so many natural ends, a string is appended and thinking goes on, within a budget."""

    budget: int | None
    string: str
    times: int

    @property
    def name(self) -> str:
        extension = f'{self.times}x"{self.string}"'
        return extension if self.budget is None else f"{extension} in {self.budget}"

    @property
    def method(self) -> str:
        """The string, ``nothing`` for the empty one, with its budget unless auto.

        Strings that read like another curve's name are in quotes: ``"budget"``.
        """
        string = self.string
        ambiguous = string == NOTHING or taken(string) or READS_LIKE_ANOTHER.search(string)
        name = f'"{string}"' if ambiguous else string or NOTHING
        return name if self.budget is None else f"{name} in {self.budget}"

    @property
    def setting(self) -> str:
        return Budget(self.budget).setting

    @property
    def route(self) -> Route:
        return Route(self.budget, (self.string,) * self.times)

    @property
    def place(self) -> float:
        return self.times

    @property
    def origin(self) -> Policy:
        """No extension, within the same budget."""
        return Budget(self.budget)

    @property
    def asked(self) -> int | None:
        return self.budget


def extended(budgets: Iterable[int | None], strings: Iterable[str], counts: Iterable[int]) -> tuple[Extension, ...]:
    """Each string at each count within each budget, none twice."""
    return tuple(
        Extension(budget, string, count)
        for budget in ordered(budgets)
        for string in dict.fromkeys(strings)
        for count in sorted(set(counts))
    )


def grid(
    budgets: Iterable[int | None],
    strings: Iterable[str] = (),
    counts: Iterable[int] = (),
    within: Iterable[int | None] = (None,),
) -> tuple[Policy, ...]:
    """Each of `budgets` alone, then each string at each count `within` each of those."""
    return (*map(Budget, ordered(budgets)), *extended(within, tuple(strings), tuple(counts)))


def policies(given: Extensions, sweep: SweepFields, before: Sequence[Policy]) -> Sequence[Policy]:
    return extended(policy_budgets(given.budgets), given.strings, given.counts)


def count(given: Extensions, before: int, sweep: SweepFields) -> int:
    return len(set(given.strings)) * len(set(given.budgets)) * len(set(given.counts))


def check(given: Extensions, sweep: SweepFields) -> None:
    extended = len(set(given.strings)) * len(set(given.budgets)) * sum(set(given.counts))
    if extended > MOST_EXTENDED:
        raise ValueError(
            f"extensions: {extended:,} in all, over strings, counts and budgets: give at most {MOST_EXTENDED:,}, "
            "and others in a step of their own, which shares its traces"
        )


def chats(given: Extensions, sweep: SweepFields) -> Iterator[Refusal]:
    yield (), "needs thinking that can be continued, and a server that only chats ends its own: leave it out"


KIND = PolicyKind(
    value=Extensions,
    policies=policies,
    description="strings that replace the end of thinking",
    order=20,
    count=count,
    check=check,
    chats=chats,
)
