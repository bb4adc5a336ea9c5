"""``scored: {samples: 16}``: whole traces, each scored once: what weighted votes and the best of n are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Choice, Node, SearchPolicy
from jobs.evaluate.sweep.searching import cannot_search, check_search
from jobs.evaluate.sweep.steps import Steps
from jobs.evaluate.sweep.values import MAX_LENGTH, MOST_WIDTH
from orchestrator.job.strict_model import StrictModel

METHOD = "scored"


class ScoredField(StrictModel):
    """Traces that are scored where they end."""

    samples: int = Field(ge=1, le=MOST_WIDTH, description="of each item")
    tokens: int = Field(
        default=4096, ge=1, le=MAX_LENGTH, description="of thinking, at most; prompts that leave less have no answer"
    )


@dataclass(frozen=True)
class Scored(SearchPolicy):
    """A search of one step. Its leaves elect nothing: each is a sample, with its score."""

    @property
    def name(self) -> str:
        return METHOD

    @property
    def method(self) -> str:
        return METHOD

    @property
    def elects(self) -> bool:
        return False

    def choose(self, level: Sequence[Node], left: int) -> Choice:
        return Choice(tuple(range(len(level))), (0,) * len(level))


def policies(given: ScoredField, sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    yield Scored(given.samples, Steps(None, given.tokens, 1), "best", sweep.search.repeats)


KIND = PolicyKind(
    value=ScoredField,
    policies=policies,
    description="whole traces, each with a score",
    order=135,
    count=lambda given, before, sweep: 1,
    curves=(METHOD,),
    check=lambda given, sweep: check_search("scored", sweep),
    searches=True,
    chats=cannot_search,
)
