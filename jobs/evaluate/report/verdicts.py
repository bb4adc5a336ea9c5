"""Every verdict of a sweep, one letter each, and which samples are worth showing first.

All of them travel with the page, so its filter is over the whole sweep; only traces have to be chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

LETTERS = {"correct": "c", "wrong": "w", "no_answer": "n", "error": "e", "ungraded": "u"}
MISSING = "-"


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of one task."""

    policies: tuple[str, ...]
    units: tuple[tuple[str, int], ...]
    """Item and sample of each row, in the order of the samples."""
    letters: NDArray[np.str_]
    """``[units, policies]``, of :data:`LETTERS`."""

    @property
    def items(self) -> tuple[str, ...]:
        """Each once, in the order of the samples."""
        return tuple(dict.fromkeys(item for item, _ in self.units))

    @property
    def text(self) -> str:
        """All letters, row after row."""
        return "".join(self.letters.ravel().tolist())

    def flips(self, before: str, after: str) -> tuple[int, int]:
        """Samples that are wrong under one policy and right under the other: won by `after`, and lost by it."""
        first, second = (self.letters[:, self.policies.index(name)] == "c" for name in (before, after))
        return int((~first & second).sum()), int((first & ~second).sum())

    def by_interest(self, wanted: Collection[str]) -> list[tuple[str, int]]:
        """The units in the order in which a page of limited size should have their traces.

        First all samples of the items `wanted`; then the first sample of every item, those first on which policies
        disagree; then the second samples, and so on.
        """
        correct = self.letters == "c"
        agree = (correct == correct[:, :1]).all(axis=1).tolist()
        turns: dict[str, int] = {}
        ranked = []
        for place, (item, sample) in enumerate(self.units):
            turn = turns[item] = turns.get(item, -1) + 1
            ranked.append((item not in wanted, 0 if item in wanted else turn, agree[place], place, (item, sample)))
        return [unit for *_, unit in sorted(ranked)]


def read_verdicts(samples: Path, task: str, policies: Sequence[str]) -> Verdicts:
    """The verdicts of `task` from a ``samples.parquet``."""
    names = ["task", "item", "policy", "verdict"]
    table = pq.read_table(
        samples, columns=[*names, "sample"], read_dictionary=names, filters=[("task", "=", task)]
    ).combine_chunks()
    codes = {}
    values: dict[str, list[str]] = {}
    for name in names[1:]:
        column = table[name].unify_dictionaries().combine_chunks()
        codes[name] = column.indices.to_numpy().astype(np.int64)
        values[name] = column.dictionary.to_pylist()
    sample = table["sample"].to_numpy().astype(np.int64)
    keys = codes["item"] * (int(sample.max(initial=0)) + 1) + sample
    _, first, rows = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # units as they come in the file, not as their codes sort
    units = [(values["item"][codes["item"][place]], int(sample[place])) for place in sorted(first.tolist())]
    columns = np.array([policies.index(name) for name in values["policy"]], dtype=np.int64)
    letters = np.array([LETTERS[name] for name in values["verdict"]])
    matrix = np.full((len(units), len(policies)), MISSING)
    matrix[order[rows], columns[codes["policy"]]] = letters[codes["verdict"]]
    return Verdicts(tuple(policies), tuple(units), matrix)


def rows_of(
    samples: Path, task: str, units: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], list[dict[str, object]]]:
    """The rows of some units of `task`, by unit, in the order of the file."""
    wanted = dict.fromkeys(units)
    by_unit: dict[tuple[str, int], list[dict[str, object]]] = {unit: [] for unit in wanted}
    items = sorted({item for item, _ in wanted})
    table = pq.read_table(samples, filters=[("task", "=", task), ("item", "in", items)])
    for row in table.to_pylist():
        unit = (row["item"], row["sample"])
        if unit in by_unit:
            by_unit[unit].append(row)
    return by_unit
