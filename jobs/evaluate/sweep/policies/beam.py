"""``beam: {widths: [16], each: 4}``: of every level the best steps go on, each with so many children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Choice, Node, SearchPolicy
from jobs.evaluate.sweep.searching import Searching, cannot_search, check_search
from jobs.evaluate.sweep.values import Widths, ascending

METHOD = "beam search"
EACH = 4


class BeamField(Searching):
    """Beam searches, one for each width."""

    widths: Widths = Field(description="steps of each level, leaves of the levels above included")
    each: int = Field(default=EACH, ge=1, description="children of a step that goes on")


@dataclass(frozen=True)
class Beam(SearchPolicy):
    """The best steps of a level have children, as many each, until the width without what finished is spent."""

    each: int

    @property
    def name(self) -> str:
        return f"{self.method} {self.width}"

    @property
    def method(self) -> str:
        return f"{METHOD}{'' if self.each == EACH else f' of {self.each}'}{self.suffix}"

    def choose(self, level: Sequence[Node], left: int) -> Choice:
        finished = tuple(number for number, node in enumerate(level) if node.finished)
        left -= len(finished)
        children = [0] * len(level)
        live = (number for number, node in enumerate(level) if not node.finished)
        for number in sorted(live, key=lambda number: -level[number].score):
            children[number] = min(self.each, left)
            left -= children[number]
        return Choice(finished, tuple(children))


def policies(given: BeamField, sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    search = sweep.search
    for width in ascending(given.widths):
        yield Beam(width, search.steps.steps, given.vote, search.repeats, given.each)


KIND = PolicyKind(
    value=BeamField,
    policies=policies,
    description="search: the best steps of every level go on",
    order=150,
    count=lambda given, before, sweep: len(set(given.widths)),
    curves=(METHOD,),
    check=lambda given, sweep: check_search("beam", sweep),
    searches=True,
    chats=cannot_search,
)
