"""The main job, struck at random moments: the short form of ``benchmarks/chaos.py``."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.chaos import Totals, compare, torment, undisturbed


@pytest.mark.timeout(900)
def test_a_kill_at_a_random_moment_loses_nothing_duplicates_nothing_and_changes_nothing(tmp_path: Path) -> None:
    expected, seconds = undisturbed(tmp_path / "undisturbed")
    totals = torment(tmp_path, expected, 1, random.Random(1), seconds)
    assert totals.kills.total() == 1
    assert (totals.lost, totals.duplicated, totals.differing, totals.left) == (0, 0, 0, 0)


def test_what_is_lost_twice_there_or_another_is_told_apart() -> None:
    expected = {("step", 1, 0.5): 1, ("step", 2, 0.4): 1, ("step", 3, 0.3): 1, ("weights", "a"): 1}
    got = {("step", 1, 0.5): 2, ("step", 2, 0.1): 1, ("weights", "a"): 1, ("run", "new"): 1}
    totals = Totals()
    compare(Counter(expected), Counter(got), totals)
    assert (totals.lost, totals.duplicated, totals.differing) == (1, 2, 1)
