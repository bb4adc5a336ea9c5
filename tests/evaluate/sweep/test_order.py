"""The order of items: nothing measured has a part in it, and what is shown early is not what finished early."""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heapreplace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.sweep.order import LEAST, SHARES, blocks


@given(st.sets(st.text(max_size=8), min_size=1, max_size=400))
def test_blocks_double_and_every_item_is_in_one(items: set[str]) -> None:
    block = blocks("task", items)
    assert set(block) == items
    sizes = [count for _, count in sorted(Counter(block.values()).items())]
    assert sorted(set(block.values())) == list(range(len(sizes)))
    whole = np.cumsum(sizes)
    assert whole[-1] == len(items)
    assert whole[0] >= min(LEAST, len(items))
    shares = {int(np.ceil(share * len(items))) for share in SHARES}
    assert set(whole) <= shares


def test_the_order_is_that_of_the_ids_alone() -> None:
    items = [f"item-{number}" for number in range(100)]
    assert blocks("task", items) == blocks("task", items[::-1])
    assert blocks("task", items) != blocks("other", items)


def decoded(lengths: np.ndarray, order: np.ndarray, seats: int) -> np.ndarray:
    """When each item ends, if `seats` of them decode side by side, in this order."""
    free = [0.0] * seats
    heapify(free)
    ends = np.empty(len(lengths))
    for item in order:
        ends[item] = free[0] + lengths[item]
        heapreplace(free, ends[item])
    return ends


def test_points_shown_before_the_end_are_not_biased_where_those_that_finished_are() -> None:
    """2,000 sweeps of items whose lengths have a long tail, and whose short ones are easy; looked at at ten moments."""
    rng = np.random.default_rng(0)
    items, seats = 240, 60
    shown: list[float] = []
    naive: list[float] = []
    for _ in range(2000):
        lengths = rng.lognormal(0, 0.8, items)
        right = rng.random(items) < np.where(lengths < 1, 0.8, 0.3)  # 0.55 in all
        rank = rng.permutation(items)  # of the hash, which has nothing to do with lengths
        block = np.searchsorted([np.ceil(share * items) for share in SHARES], rank, side="right")
        expected = lengths * rng.lognormal(0, 0.3, items)  # longest first, as far as one can tell
        ends = decoded(lengths, np.lexsort((-expected, block)), seats)
        for moment in rng.uniform(0, ends.max(), 10):
            whole = [number for number in range(len(SHARES)) if (ends[block <= number] <= moment).all()]
            if whole:
                shown.append(right[block <= whole[-1]].mean() - 0.55)
            if (ends <= moment).any():
                naive.append(right[ends <= moment].mean() - 0.55)
    assert abs(np.mean(naive)) > 0.02, "what finished first says too much"
    assert abs(np.mean(shown)) < 0.01, "what is left is when one looks"
