"""``dvts: {widths: [16], each: 4}``: independent trees, in each of which the best step goes on (diverse verifier tree
search, Beeching et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field, model_validator

from jobs.evaluate.sweep.kinds import PolicyKind, SweepFields
from jobs.evaluate.sweep.policies.beam import EACH
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Choice, Node, SearchPolicy
from jobs.evaluate.sweep.searching import Searching, cannot_search, check_search
from jobs.evaluate.sweep.values import Widths, ascending

METHOD = "DVTS"


class DvtsField(Searching):
    """Diverse verifier tree searches, one for each width."""

    widths: Widths = Field(description="steps of each level, over all trees; multiples of `each`")
    each: int = Field(default=EACH, ge=1, description="steps of each level of a tree")

    @model_validator(mode="after")
    def _trees_are_whole(self) -> DvtsField:
        for width in self.widths:
            if width % self.each:
                raise ValueError(
                    f"widths: {width} is no multiple of each, {self.each}, and trees are that wide: give one that is"
                )
        return self


@dataclass(frozen=True)
class Dvts(SearchPolicy):
    """Width / each trees, which know nothing of each other. In each the best step goes on, or is the tree's leaf."""

    each: int

    @property
    def name(self) -> str:
        return f"{self.method} {self.width}"

    @property
    def method(self) -> str:
        return f"{METHOD}{'' if self.each == EACH else f' of {self.each}'}{self.suffix}"

    def choose(self, level: Sequence[Node], left: int) -> Choice:
        best: dict[int, int] = {}
        for number, node in enumerate(level):
            tree = int(node.path[0]) // self.each
            if tree not in best or node.score > level[best[tree]].score:
                best[tree] = number
        taken = set(best.values())
        leaves = tuple(number for number in sorted(taken) if level[number].finished)
        children = (self.each if number in taken and not node.finished else 0 for number, node in enumerate(level))
        return Choice(leaves, tuple(children))


def policies(given: DvtsField, sweep: SweepFields, before: Sequence[Policy]) -> Iterator[Policy]:
    search = sweep.search
    for width in ascending(given.widths):
        yield Dvts(width, search.steps.steps, given.vote, search.repeats, given.each)


KIND = PolicyKind(
    value=DvtsField,
    policies=policies,
    description="search: the best step of each of several trees goes on",
    order=160,
    count=lambda given, before, sweep: len(set(given.widths)),
    curves=(METHOD,),
    check=lambda given, sweep: check_search("dvts", sweep),
    searches=True,
    chats=cannot_search,
)
