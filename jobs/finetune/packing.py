"""Packs samples into rows of at most so many tokens, so that long blocks are not mostly padding.

Which samples share a row changes what a batch is, hence the result, so it is part of the experiment (``packing``) and
a pure function of the lengths: longest first, each into the row that it leaves the least room in. Samples in a row do
not see each other (:mod:`jobs.finetune.attention`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from jobs.finetune.data import TokenizedData


def pack(data: TokenizedData, block_size: int) -> TokenizedData:
    """The same samples, in rows of at most `block_size` tokens. None of them may be longer."""
    rows = assign([int(length) for length in np.diff(data.starts)], block_size)
    order = np.asarray([sample for row in rows for sample in row], dtype=np.int64)
    return data.arrange(order, [len(row) for row in rows])


def assign(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Which of `lengths` go together, as indices: best-fit decreasing. It takes 11/9 of the fewest rows at most.

    O(n log n) comparisons: rows are kept in order of the room they have left.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        at = bisect_left(room, (lengths[index], -1))
        if at == len(room):
            left, row = size, len(rows)
            rows.append([])
        else:
            left, row = room.pop(at)
        rows[row].append(index)
        insort(room, (left - lengths[index], row))
    return rows
