"""The main job, struck at random moments: the short form of ``benchmarks/chaos.py``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.chaos import torment, undisturbed


@pytest.mark.timeout(900)
def test_a_kill_at_a_random_moment_loses_nothing_duplicates_nothing_and_changes_nothing(tmp_path: Path) -> None:
    expected, seconds = undisturbed(tmp_path / "undisturbed")
    totals = torment(tmp_path, expected, 1, random.Random(1), seconds)
    assert totals.kills.total() == 1
    assert (totals.lost, totals.duplicated, totals.differing, totals.left) == (0, 0, 0, 0)
