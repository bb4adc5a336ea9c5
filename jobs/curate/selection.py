"""Which of the rows that are left are taken: functions of the rows, a size and a seed, by name.

Rows come in the order of their keys, whatever order the data has, and all chance is one generator's: the same data and
seed give the same set. To add a selection is to write a function here and name it in :data:`SELECTIONS`; another
package adds its own by the group ``scaling_orchestrator.selections``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.curate.row import Entry
from orchestrator.job.extensions import ExtensionPoint

UNIFORM = 0.7
"""The share of a set up to which `s1` draws every domain alike: 700 of the paper's 1,000."""


@dataclass(frozen=True)
class Preselected:
    """Rows that `s1` takes before it draws: those of a source, if correct, and longer than so much."""

    source: str
    longer_than: int = 0

    def takes(self, row: Entry) -> bool:
        """Whether a row is among them."""
        return row.correct and self.source.lower() in row.source.lower() and row.length > self.longer_than


@dataclass(frozen=True)
class Wanted:
    """What is to be selected."""

    size: int
    rng: random.Random
    preselect: tuple[Preselected, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of domains, after the first UNIFORM; none: all alike to the end."""


@dataclass(frozen=True)
class Selection:
    """A way to select."""

    select: Callable[[Sequence[Entry], Wanted], list[Entry]]
    """Gives as many rows as are wanted, each once; there are as many."""
    by_domain: bool = False
    sized: bool = True
    """Whether it takes a size."""


def _random(rows: Sequence[Entry], wanted: Wanted) -> list[Entry]:
    return wanted.rng.sample(list(rows), wanted.size)


def _by_length(rows: Sequence[Entry], sign: int, size: int) -> list[Entry]:
    return sorted(rows, key=lambda row: (sign * row.length, row.key))[:size]


def _diverse(rows: Sequence[Entry], wanted: Wanted) -> list[Entry]:
    """A domain, each as likely, and in it a row, each as likely."""
    return _drawn(rows, wanted, [], lambda count: 0 if count == 1 else wanted.rng.randrange(count), {})


def _as_published(rows: Sequence[Entry], wanted: Wanted) -> list[Entry]:
    """The s1 paper's algorithm 1, and what its notebook has beyond: domains are alike for the first 700 of 1,000, and
    then weighted; in a domain, the longest trace is taken with one half, the next with a quarter, and so on.

    What was taken before is not in the pool any more, where the notebook draws it again and discards it.
    """
    first = [row for row in rows if any(each.takes(row) for each in wanted.preselect)][: wanted.size]
    return _drawn(rows, wanted, first, lambda count: _halving(count, wanted.rng), wanted.weights)


def _halving(count: int, rng: random.Random) -> int:
    """A rank from 0, each half as likely as the one before it."""
    total = 1 - 0.5**count
    point, rank = rng.random() * total, 0
    while rank < count - 1 and point >= 1 - 0.5 ** (rank + 1):
        rank += 1
    return rank


def _drawn(
    rows: Sequence[Entry],
    wanted: Wanted,
    first: list[Entry],
    rank: Callable[[int], int],
    weights: Mapping[str, float],
) -> list[Entry]:
    taken = list(first)
    there = {row.key for row in first}
    pools: dict[str, list[Entry]] = {}
    for row in _by_length(rows, -1, len(rows)):
        if row.key not in there:
            pools.setdefault(row.domain, []).append(row)
    domains = sorted(pools)
    while len(taken) < wanted.size:
        likely = [weights.get(domain, 0.0) for domain in domains] if len(taken) >= UNIFORM * wanted.size else []
        if not any(likely):
            likely = [1.0] * len(domains)
        domain = wanted.rng.choices(domains, likely)[0]
        pool = pools[domain]
        taken.append(pool.pop(rank(len(pool))))
        if not pool:
            domains.remove(domain)
    return taken


SELECTIONS: ExtensionPoint[Selection] = ExtensionPoint(
    "scaling_orchestrator.selections",
    Selection,
    {
        "full": Selection(lambda rows, wanted: list(rows), sized=False),
        "random": Selection(_random),
        "longest": Selection(lambda rows, wanted: _by_length(rows, -1, wanted.size)),
        "shortest": Selection(lambda rows, wanted: _by_length(rows, 1, wanted.size)),
        "diverse": Selection(_diverse, by_domain=True),
        "s1": Selection(_as_published, by_domain=True),
    },
)


def select(name: str, rows: Sequence[Entry], wanted: Wanted) -> list[Entry]:
    """What the selection called `name` takes, in the order of keys."""
    taken = SELECTIONS[name].select(sorted(rows, key=lambda row: row.key), wanted)
    twice = [key for key, count in Counter(row.key for row in taken).items() if count > 1]
    assert not twice, f"selection {name} took {twice[0]} twice"
    return sorted(taken, key=lambda row: row.key)
