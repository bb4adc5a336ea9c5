"""Which rows ask what another one asks already, and which of them stays.

Of rows that are one question, or tied to each other by near duplicates, the one that stays has a reference answer where
any of them has; then the first by the source's name and its place there. Nothing of it depends on the order in which an
experiment lists its sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.collect.features import CompareBy, Mapped
from jobs.collect.near import candidates, groups, jaccard


@dataclass(frozen=True)
class Duplicate:
    """A row that is not needed."""

    number: int
    stays: int
    """The row that asks it."""
    similarity: float
    """To that row; 1 of the same question."""


def same(numbers: NDArray[np.int64], keys: NDArray[np.uint64], answered: NDArray[np.bool_]) -> Iterator[Duplicate]:
    """Rows with a key that another one has. All arrays are by row; `numbers` name them."""
    order = np.lexsort((numbers, ~answered, keys))
    stays = -1
    for at, place in enumerate(order):
        if at and keys[place] == keys[order[at - 1]]:
            yield Duplicate(int(numbers[place]), stays, 1.0)
        else:
            stays = int(numbers[place])


def alike(
    numbers: NDArray[np.int64],
    bands: NDArray[np.uint64],
    answered: NDArray[np.bool_],
    threshold: float,
    mapped: Mapped,
) -> Iterator[Duplicate]:
    """Rows that are nearly another one, with the same numbers and operations: with others it is another problem.

    `numbers` are rows, `bands` theirs; `answered` is of all rows.
    """
    pairs = candidates(bands)
    if not len(pairs):
        return
    involved = np.unique(numbers[pairs])
    sets: dict[int, NDArray[np.uint64]] = {}
    figures: dict[int, str] = {}
    for block in mapped(CompareBy(involved)):
        for number, own, said in zip(
            block["number"].to_pylist(), _arrays(block["shingles"]), block["figures"], strict=True
        ):
            sets[number], figures[number] = own, said.as_py()

    def tied() -> Iterable[tuple[int, int]]:
        for one, other in numbers[pairs].tolist():
            if figures[one] == figures[other] and jaccard(sets[one], sets[other]) >= threshold:
                yield one, other

    for members in groups(tied()):
        stays = min(members, key=lambda number: (not answered[number], number))
        for number in members:
            if number != stays:
                yield Duplicate(number, stays, jaccard(sets[number], sets[stays]))


def _arrays(lists: pa.ChunkedArray) -> Iterator[NDArray[np.uint64]]:
    for chunk in lists.chunks:
        values, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        yield from (values[low:high] for low, high in pairwise(offsets))
