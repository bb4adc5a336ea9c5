"""What ``benchmarks/chaos.py`` counts."""

from __future__ import annotations

from collections import Counter

from benchmarks.chaos import Totals, compare


def test_what_is_lost_twice_there_or_another_is_told_apart() -> None:
    expected = {("step", 1, 0.5): 1, ("step", 2, 0.4): 1, ("step", 3, 0.3): 1, ("weights", "a"): 1}
    got = {("step", 1, 0.5): 2, ("step", 2, 0.1): 1, ("weights", "a"): 1, ("run", "new"): 1}
    totals = Totals()
    compare(Counter(expected), Counter(got), totals)
    assert (totals.lost, totals.duplicated, totals.differing) == (1, 2, 1)
