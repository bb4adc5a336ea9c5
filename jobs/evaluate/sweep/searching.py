"""What the kinds of search have in common in an experiment file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from jobs.evaluate.sweep.kinds import UNTOLD, Refusal, SweepFields
from jobs.evaluate.sweep.search import VOTES
from jobs.evaluate.sweep.steps import Steps
from jobs.evaluate.sweep.values import MAX_LENGTH
from jobs.template import UNMARKED
from orchestrator.job.strict_model import StrictModel

MOST_STEPS = 1000
"""Of a trace."""


class StepRule(StrictModel):
    """Where a search may branch."""

    at: str | None = Field(
        default="\n\n", min_length=1, description="what ends a step: text, header (the template's), or null"
    )
    tokens: int = Field(default=256, ge=1, le=MAX_LENGTH, description="of a step, at most")
    most: int = Field(default=25, ge=1, le=MOST_STEPS, description="steps of a trace; it is made to answer after them")

    @property
    def steps(self) -> Steps:
        return Steps(self.at, self.tokens, self.most)


class Searching(StrictModel):
    """What every kind has."""

    vote: Literal["weighted", "majority", "best"] = Field(
        default="weighted", description="; ".join(f"{name}: {what}" for name, what in VOTES.items())
    )


def check_search(key: str, sweep: SweepFields) -> None:
    """Raises ValueError where the rest of the sweep does not go with a search."""
    if sweep.search is None:
        raise ValueError(f"{key}: needs a scorer: give search: {{scorer: …, steps: …}}")
    if sweep.style == UNMARKED:
        raise ValueError(f"{key}: {UNTOLD}")
    if sweep.greedy:
        raise ValueError(f"{key}: needs a temperature above 0: greedy steps after the same trace are all the same")


def cannot_search(given: Any, sweep: SweepFields) -> Iterator[Refusal]:
    """Why a server that only chats cannot do it."""
    yield (), "needs thinking that can be continued, and a server that only chats shows none: leave it out"
