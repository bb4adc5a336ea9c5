"""Near duplicates: questions that share most of their runs of three words.

MinHash finds who may be alike without comparing all with all: of each question's shingles :data:`PERMUTATIONS` minima
are kept, in bands, and two questions that agree in one whole band are candidates. How many rows a band has follows from
the threshold: as many as still find a pair at the threshold with a probability of :data:`RECALL`. Candidates are then
compared by what they really share, so nothing below the threshold counts, however MinHash fell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from jobs.collect.normal import all_grams, grams

SHINGLE = 3
"""Words."""
FEWEST = 6
"""Words of a question that can be nearly another one. A shorter one is the same or it is not."""
PERMUTATIONS = 128
SEED = 1
RECALL = 0.99
CROWD = 32
"""Members of a band's bucket of which all pairs are looked at; of larger ones, each with its neighbours."""


def shingles(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The set of a question's shingles, ascending; none of so few words that each of them matters."""
    return np.unique(grams(words, SHINGLE)) if len(words) >= FEWEST else np.empty(0, np.uint64)


def rows_per_band(threshold: float) -> int:
    """The most rows with which a pair of similarity `threshold` becomes a candidate with a probability of RECALL."""
    for rows in range(PERMUTATIONS, 1, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def bands(words: Sequence[NDArray[np.uint64]], threshold: float) -> NDArray[np.uint64]:
    """[questions, bands]: :func:`minhash` of each question's shingles. Of fewer words than FEWEST it means nothing."""
    return minhash(*all_grams(words, SHINGLE), threshold)


def minhash(flat: NDArray[np.uint64], starts: NDArray[np.int64], threshold: float) -> NDArray[np.uint64]:
    """[sets, bands]: a number for each band of the MinHash of each set; equal ones make candidates. The members of all
    sets are in `flat`, one set after the other; [sets + 1] `starts` are where those of each begin."""
    rows = rows_per_band(threshold)
    count = PERMUTATIONS // rows
    if len(starts) == 1:
        return np.empty((0, count), np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, starts.astype(np.uint64), PERMUTATIONS, SEED)
    minima = np.asarray(matrix.to_rows(), np.uint64)
    return np.stack([grams(minima[:, band * rows : (band + 1) * rows].T, rows)[0] for band in range(count)], axis=1)


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """The share of two sets' members, ascending, that are in both."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    either = len(one) + len(other) - both
    return both / either if either else 0.0


def candidates(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[pairs, 2]: rows of `keys` that agree in a band, the lower first, each once. One band is sorted at a time."""
    agreeing = np.empty((0, 2), np.int64)
    for band in range(keys.shape[1]):
        column = keys[:, band]
        order = np.argsort(column, kind="stable")
        same = column[order[1:]] == column[order[:-1]]
        pairs = list(_pairs(order, same))
        if pairs:
            agreeing = np.unique(np.concatenate([agreeing, np.sort(np.asarray(pairs, np.int64), axis=1)]), axis=0)
    return agreeing


def _pairs(order: NDArray[np.int64], same: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        members = [int(each) for each in order[start : end + 1]]
        for place, member in enumerate(members):
            # The first of a crowd is everyone's neighbour, so that one that is unlike the next is not lost.
            reach = members[place + 1 :] if len(members) <= CROWD else [*members[place + 1 : place + 3], members[0]]
            yield from ((member, other) for other in reach if other != member)


def groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Rows that are tied to each other by pairs, directly or through others, each group ascending."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        parent.setdefault(row, row)
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for one, other in pairs:
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    members_of: dict[int, list[int]] = {}
    for row in sorted(parent):
        members_of.setdefault(root(row), []).append(row)
    return list(members_of.values())
