"""What is decoded of a unit, be it a tree of branches or a forest of searches: the questions that both are asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.search import Forest, SearchPolicy
from jobs.evaluate.sweep.tree import Known, Room, Tree, cuts, grow, wanted, width

Grown = Tree | Forest


def plant(
    policies: Collection[Policy],
    injected: Mapping[str, int],
    header: int = 0,
    longer: Mapping[str, int] | None = None,
    scorer: str = "",
    reads_answers: bool = False,
) -> Grown:
    """What `policies` of one root need, as :func:`jobs.evaluate.sweep.tree.grow` has it; of searches, with the scorer
    that identifies itself so."""
    searches = tuple(policy for policy in policies if isinstance(policy, SearchPolicy))
    return Forest(searches, scorer, reads_answers) if searches else grow(policies, injected, header, longer)


def branches_of(grown: Grown) -> Tree:
    """A tree of branches, of a unit that is not searched."""
    assert isinstance(grown, Tree), "a search has no branches"
    return grown


def is_whole(grown: Grown, room: Room, known: Known) -> bool:
    """Whether nothing of a unit is missing."""
    missing = grown.wanted(room, known) if isinstance(grown, Forest) else wanted(grown, room, known)
    return next(missing, None) is None


def longest(grown: Grown, room: Room) -> int:
    """Thinking tokens of the longest trace of a unit."""
    return grown.longest(room) if isinstance(grown, Forest) else max(cuts(grown, (), 0, room), default=0)


def seats(grown: Grown) -> int:
    """Requests of one unit that a replica should have room for at once."""
    return grown.width if isinstance(grown, Forest) else width(grown)
