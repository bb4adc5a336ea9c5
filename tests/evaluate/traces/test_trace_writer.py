"""A replica's trace files: few, merged while it writes, and whatever is acknowledged is there after any death."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.evaluate.sweep.tree import Key
from jobs.evaluate.traces import compaction, trace_writer
from jobs.evaluate.traces.compaction import compact, merge
from jobs.evaluate.traces.files import Index, MovedFile, read_tokens, write
from jobs.evaluate.traces.segments import Segment, root
from jobs.evaluate.traces.trace_writer import FANOUT, WRITE_SECONDS, WRITE_TOKENS, TraceWriter
from orchestrator.store.local_storage import LocalStorage
from orchestrator.store.protocol import Stored
from tests.evaluate.traces.killed_writer import MOMENTS, assert_nothing_is_lost, forked
from tests.evaluate.traces.test_trace_files import EXTENTS, quiet, tokens_by_key, unit_segments

TRUNK = Key((), "thinking")


class Clock:
    """Says what it was set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def segment(item: str, tokens: int) -> Segment:
    return Segment(item, 0, TRUNK, 0, tuple(range(tokens)), True, root(item, 0))


def parquet(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def test_a_file_is_due_by_age_which_grows_with_the_time_worked(tmp_path: Path) -> None:
    clock = Clock()
    writer = TraceWriter(tmp_path, clock=clock)
    assert writer.due == WRITE_SECONDS[0]
    clock.now = 300.0
    writer.take()
    assert writer.due == pytest.approx(5.0), "a sixtieth of five minutes"
    clock.now = 36_000.0
    writer.take()
    assert writer.due == WRITE_SECONDS[1]
    clock.now += WRITE_SECONDS[1]
    assert writer.due == 0.0


def test_a_file_is_due_by_size_before(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, clock=Clock())
    writer.record(segment("a", WRITE_TOKENS // 2))
    assert writer.due > 0
    writer.record(segment("b", WRITE_TOKENS // 2))
    assert writer.due == 0.0
    assert len(writer.take()) == 2
    assert writer.due > 0


@pytest.mark.seconds
def test_files_stay_few_however_long_a_replica_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "FANOUT", 4)
    writer = TraceWriter(tmp_path)
    most, writes = 0, 130
    for number in range(writes):
        writer.record(segment(f"item {number}", 5))
        writer.write(writer.take())
        if writer.mergeable:
            writer.merge()
        most = max(most, len(parquet(tmp_path)))
    assert most <= 4 * 4, "FANOUT files of each generation, of which there are four"
    index = Index(tmp_path, quiet)
    assert index.size == writes
    assert all(index.unit(f"item {number}", 0).rows for number in range(writes))
    writer.finish()
    assert len(parquet(tmp_path)) == 1
    assert Index(tmp_path, quiet).size == writes


def test_large_files_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "COMPACTED_BYTES", 30_000)
    monkeypatch.setattr(compaction, "COMPACTED_BYTES", 30_000)
    words = random.Random(0)
    writer = TraceWriter(tmp_path)
    for number in range(100):
        tokens = tuple(words.randrange(1 << 20) for _ in range(500))
        writer.record(Segment(f"{number}", 0, TRUNK, 0, tokens, True, root(f"{number}", 0)))
        writer.write(writer.take())
        writer.merge()
    writer.finish()
    sizes = [file.stat().st_size for file in parquet(tmp_path)]
    assert sorted(size >= 30_000 for size in sizes)[1:] == [True] * (len(sizes) - 1)
    assert max(sizes) < 60_000
    assert Index(tmp_path, quiet).size == 100


@pytest.mark.seconds
def test_killed_at_random_moments_nothing_is_lost_and_the_rest_is_merged_each_row_once(tmp_path: Path) -> None:
    acknowledged: Counter[str] = Counter()
    moments = random.Random(0)
    for number in range(12):
        with forked(tmp_path, number, moments.randrange(1, MOMENTS)) as (_, said):
            acknowledged += said
        assert_nothing_is_lost(tmp_path, acknowledged)
    for file in tmp_path.glob(".*"):
        os.utime(file, (0, 0))
    compact(tmp_path)
    assert_nothing_is_lost(tmp_path, acknowledged)
    (file,) = parquet(tmp_path)
    digests = pq.read_table(file)["digest"].to_pylist()
    assert len(digests) == len(set(digests)), "what was there twice is there once"
    assert not list(tmp_path.glob(".*"))


def test_which_of_two_competing_segments_counts_does_not_change_when_files_are_merged(tmp_path: Path) -> None:
    mine = [Segment("a", 0, TRUNK, 0, (number,), True, root("a", 0)) for number in range(3)]
    other = write(tmp_path, unit_segments("b"))
    first = write(tmp_path, mine[:1])
    later = write(tmp_path, mine[1:])
    assert other is not None
    assert later is not None
    before = tokens_by_key(Index(tmp_path, quiet), "a")
    merge(tmp_path, [other, later])
    assert len(parquet(tmp_path)) == 2
    assert parquet(tmp_path)[0] != first, "the merged file sorts first"
    assert tokens_by_key(Index(tmp_path, quiet), "a") == before == {TRUNK: [0]}
    merge(tmp_path, parquet(tmp_path))
    assert tokens_by_key(Index(tmp_path, quiet), "a") == before


def test_a_reader_finds_again_what_was_merged_meanwhile(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path)
    for item in "ab":
        writer.write(unit_segments(item))
    said: list[str] = []
    index = Index(tmp_path, said.append)
    known = index.unit("a", 0)
    writer.finish()
    with pytest.raises(MovedFile) as moved:
        list(read_tokens(index.places(known.rows)))
    index.discard(str(moved.value))
    assert not said, "nothing is damaged"
    assert index.unit("a", 0).extents == EXTENTS
    assert tokens_by_key(index, "a")[TRUNK] == list(range(40))


def test_a_file_that_goes_between_listing_and_reading_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TraceWriter(tmp_path)
    for item in "ab":
        writer.write(unit_segments(item))
    listed = LocalStorage.files

    def then_merged(storage: LocalStorage) -> dict[str, Stored]:
        before = dict(listed(storage))
        writer.finish()
        return before

    monkeypatch.setattr(LocalStorage, "files", then_merged)
    index = Index(tmp_path, quiet)
    assert {item: index.unit(item, 0).extents for item in "ab"} == {"a": EXTENTS, "b": EXTENTS}


def test_a_damaged_file_stays_as_it_is_and_the_others_are_written_on(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path)
    for number in range(FANOUT - 1):
        writer.write(unit_segments(f"item {number}"))
    damaged = parquet(tmp_path)[3]
    damaged.write_bytes(damaged.read_bytes()[:200])
    writer.write(unit_segments("last"))
    writer.merge()
    said: list[str] = []
    index = Index(tmp_path, said.append)
    assert len(said) == 1
    whole = [f"item {number}" for number in range(FANOUT - 1) if number != 3]
    assert all(index.unit(item, 0).extents == EXTENTS for item in [*whole, "last"])
