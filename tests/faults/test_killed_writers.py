"""A replica's writer that is killed before each single thing that it does to the file system: minutes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from jobs.evaluate.traces.files import Index
from tests.evaluate.traces.killed_writer import MOMENTS, UNITS, assert_nothing_is_lost, forked
from tests.evaluate.traces.test_trace_files import quiet


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    killed_at = 1
    before: Counter[str] = Counter()
    twice_on_disk = 0
    while True:
        folder = tmp_path / str(killed_at)
        folder.mkdir()
        with forked(folder, killed_at, killed_at) as (killed, acknowledged):
            assert len(acknowledged) >= len(before) - 1, "later moments come later"
            rows = sum(pq.read_metadata(file).num_rows for file in list(folder.glob("*.parquet")))
            twice_on_disk += rows > Index(folder, quiet).size
            assert_nothing_is_lost(folder, acknowledged)
        if not killed:
            break
        before, killed_at = acknowledged, killed_at + 1
    assert killed_at > MOMENTS, "moments at which it was killed"
    assert twice_on_disk > 5, "also between a merged file and the end of its sources"
    assert len(acknowledged) == UNITS
    assert len(list(folder.glob("*.parquet"))) == 1
