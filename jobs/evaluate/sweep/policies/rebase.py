"""``rebase: {widths: [4, 16]}``: steps share the width by their scores (Wu et al. 2025, arXiv 2408.00724)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, exp, fsum

from pydantic import Field

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Choice, Node, SearchPolicy
from jobs.evaluate.sweep.searching import Searching, cannot_search, check_search
from jobs.evaluate.sweep.values import Widths, ascending

METHOD = "REBASE"
ROUNDING = 1e-9
"""By which a share that is a whole number may come out as more."""
BALANCE = 0.1
"""The paper's; its code has 0.2."""


class RebaseField(Searching):
    """Searches by REBASE, one for each width."""

    widths: Widths = Field(description="steps of each level, leaves of the levels above included")
    balance: float = Field(
        default=BALANCE, gt=0, allow_inf_nan=False, description="temperature of the scores' softmax; high: all alike"
    )


@dataclass(frozen=True)
class Rebase(SearchPolicy):
    """Steps have children by the softmax of their scores, as many in all as the width without what finished."""

    balance: float

    @property
    def name(self) -> str:
        return f"{self.method} {self.width}"

    @property
    def method(self) -> str:
        tuned = "" if self.balance == BALANCE else f" at {self.balance:g}"
        return f"{METHOD}{tuned}{self.suffix}"

    def choose(self, level: Sequence[Node], left: int) -> Choice:
        finished = tuple(number for number, node in enumerate(level) if node.finished)
        live = [number for number, node in enumerate(level) if not node.finished]
        shares = allocation([level[number].score for number in live], left - len(finished), self.balance)
        children = dict(zip(live, shares, strict=True))
        return Choice(finished, tuple(children.get(number, 0) for number in range(len(level))))


def allocation(scores: Sequence[float], budget: int, balance: float) -> list[int]:
    """How many of `budget` children each node gets: exactly so many in all, where there is a node.

    The paper rounds each node's share B · exp(R / T) / Σ, which may be off the budget. As in its code, nodes are served
    in falling order of their scores, of equals the first first, and each takes its share of what is left, rounded up,
    but no more than the one before it: of two shares a hair from a whole number, only the lesser may be rounded up.
    """
    shares = [0] * len(scores)
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    weights = [exp((scores[number] - scores[order[0]]) / balance) for number in order]
    most = budget
    for place, number in enumerate(order):
        if not budget:
            break
        share = budget * (weights[place] / fsum(weights[place:]))
        most = shares[number] = min(budget, most, ceil(share - ROUNDING))
        budget -= most
    return shares


def policies(given: RebaseField, sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    search = sweep.search
    for width in ascending(given.widths):
        yield Rebase(width, search.steps.steps, given.vote, search.repeats, given.balance)


KIND = PolicyKind(
    value=RebaseField,
    policies=policies,
    description="search: steps share the width by their scores",
    order=140,
    count=lambda given, before, sweep: len(set(given.widths)),
    curves=(METHOD,),
    check=lambda given, sweep: check_search("rebase", sweep),
    searches=True,
    chats=cannot_search,
)
