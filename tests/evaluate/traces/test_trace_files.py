from __future__ import annotations

import random
import resource
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.evaluate.sweep.tree import Extent, Key
from jobs.evaluate.traces import compaction
from jobs.evaluate.traces.compaction import compact, shared
from jobs.evaluate.traces.files import DamagedFile, Index, read_tokens, write
from jobs.evaluate.traces.segments import Segment, root
from orchestrator.job.errors import StepError

TRUNK = Key((), "thinking")


def unit_segments(item: str, sample: int = 0, length: int = 40) -> list[Segment]:
    """A trunk in two stretches, an answer that leaves it on the way, and one at its end."""
    first = Segment(item, sample, TRUNK, 0, tuple(range(length // 2)), False, root(item, sample))
    second = Segment(item, sample, TRUNK, length // 2, tuple(range(length // 2, length)), True, first.digest)
    forced = Segment(item, sample, Key((), "forced", 3), 0, (7, 8), True, first.digest)
    natural = Segment(item, sample, Key((), "natural", length), 0, (9,), False, second.digest)
    return [first, second, forced, natural]


EXTENTS = {
    TRUNK: Extent(40, True),
    Key((), "forced", 3): Extent(2, True),
    Key((), "natural", 40): Extent(1, False),
}


def quiet(line: str) -> None:
    raise AssertionError(f"reported: {line}")


def tokens_by_key(index: Index, item: str, sample: int = 0) -> dict[Key, list[int]]:
    known = index.unit(item, sample)
    found: dict[Key, list[int]] = {}
    for row, tokens in zip(known.rows, read_tokens(index.places(known.rows)), strict=True):
        found.setdefault(row.key, []).extend(tokens)
    return found


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, unit_segments("a") + unit_segments("b", 1))
    write(tmp_path, [])
    index = Index(tmp_path, quiet)
    for item, sample in (("a", 0), ("b", 1)):
        assert index.unit(item, sample).extents == EXTENTS
        assert tokens_by_key(index, item, sample)[TRUNK] == list(range(40))
        assert tokens_by_key(index, item, sample)[Key((), "forced", 3)] == [7, 8]
    assert index.unit("b", 0).extents == {}
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_a_unit_may_be_spread_over_files_in_any_order(tmp_path: Path) -> None:
    segments = unit_segments("a")
    random.Random(0).shuffle(segments)
    index = Index(tmp_path, quiet)
    for segment in segments:
        write(tmp_path, [segment])
    assert index.unit("a", 0).extents == {}, "an index is of the moment it was refreshed"
    index.refresh()
    assert index.unit("a", 0).extents == EXTENTS


def test_paths_and_items_of_any_text_come_back(tmp_path: Path) -> None:
    item = 'a:"b"\n/ü\x00'
    key = Key(("Wait,\n", "", "ü\"'"), "thinking")
    write(tmp_path, [Segment(item, 0, TRUNK, 0, (), True, root(item, 0))])
    parent = Segment(item, 0, TRUNK, 0, (), True, root(item, 0))
    write(tmp_path, [Segment(item, 0, key, 0, (1,), False, parent.digest)])
    assert set(Index(tmp_path, quiet).unit(item, 0).extents) == {TRUNK, key}


@pytest.mark.parametrize("lost", range(4))
def test_what_followed_a_lost_record_counts_for_nothing(tmp_path: Path, lost: int) -> None:
    segments = unit_segments("a")
    write(tmp_path, [segment for number, segment in enumerate(segments) if number != lost])
    left = Index(tmp_path, quiet).unit("a", 0).extents
    expected = [
        {},
        {TRUNK: Extent(20, False), Key((), "forced", 3): Extent(2, True)},
        {TRUNK: Extent(40, True), Key((), "natural", 40): Extent(1, False)},
        {TRUNK: Extent(40, True), Key((), "forced", 3): Extent(2, True)},
    ][lost]
    assert left == expected


@pytest.mark.parametrize("how", ["torn", "emptied", "flipped in the index", "not parquet"])
def test_a_damaged_file_is_reported_and_set_aside(tmp_path: Path, how: str) -> None:
    write(tmp_path, unit_segments("a"))
    write(tmp_path, unit_segments("b"))
    damaged = min(tmp_path.glob("*.parquet"))
    content = bytearray(damaged.read_bytes())
    if how == "torn":
        content = content[: len(content) // 2]
    elif how == "emptied":
        content = bytearray()
    elif how == "flipped in the index":
        column = pq.ParquetFile(damaged).metadata.row_group(0).column(8)
        content[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    else:
        content = bytearray(b"nonsense")
    damaged.write_bytes(content)
    said: list[str] = []
    index = Index(tmp_path, said.append)
    assert len(said) == 1
    assert damaged.name in said[0]
    assert not damaged.exists()
    assert damaged.with_suffix(".damaged").exists()
    assert index.unit("a", 0).extents == {}
    assert index.unit("b", 0).extents == EXTENTS
    assert Index(tmp_path, quiet).unit("b", 0).extents == EXTENTS


def test_damaged_tokens_are_found_when_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, unit_segments("a", length=4000))
    (file,) = tmp_path.glob("*.parquet")
    column = pq.ParquetFile(file).metadata.row_group(0).column(10)
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    file.write_bytes(content)
    said: list[str] = []
    index = Index(tmp_path, said.append)
    known = index.unit("a", 0)
    assert known.extents
    with pytest.raises(DamagedFile, match=file.name):
        list(read_tokens(index.places(known.rows)))
    index.discard(str(file))
    assert index.unit("a", 0).extents == {}
    index.discard(str(file))
    assert len(said) == 1


def test_a_file_that_was_not_finished_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path, unit_segments("a"))
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tokens = tuple(random.Random(0).sample(range(1 << 30), 10_000))
    large = Segment("a", 0, Key((), "thinking"), 0, tokens, False, root("a", 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, hard))
    try:
        with pytest.raises(StepError, match=r"^traces: no space left in [^\n]* is kept$"):
            write(tmp_path, [large])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    write(tmp_path, [large])
    assert Index(tmp_path, print).unit("a", 0).extent(large.key) == Extent(10_000, False)


def test_compaction_keeps_every_record(tmp_path: Path) -> None:
    for number in range(compaction.FILES_BEFORE_COMPACTION):
        write(tmp_path, unit_segments(f"item {number}"))
    before = Index(tmp_path, quiet)
    compact(tmp_path)
    after = Index(tmp_path, quiet)
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    for number in range(compaction.FILES_BEFORE_COMPACTION):
        assert after.unit(f"item {number}", 0).extents == before.unit(f"item {number}", 0).extents == EXTENTS
        assert tokens_by_key(after, f"item {number}")[TRUNK] == list(range(40))


def test_a_compaction_that_was_killed_before_it_removed_files_changes_nothing(tmp_path: Path) -> None:
    for number in range(compaction.FILES_BEFORE_COMPACTION):
        write(tmp_path, unit_segments(f"item {number}"))
    old = {file: file.read_bytes() for file in tmp_path.glob("*.parquet")}
    compact(tmp_path)
    for file, content in old.items():
        file.write_bytes(content)
    index = Index(tmp_path, quiet)
    assert index.unit("item 3", 0).extents == EXTENTS
    assert tokens_by_key(index, "item 3")[TRUNK] == list(range(40))


def test_a_damaged_file_is_not_lost_in_a_compaction(tmp_path: Path) -> None:
    for number in range(compaction.FILES_BEFORE_COMPACTION):
        write(tmp_path, unit_segments(f"item {number}"))
    damaged = max(tmp_path.glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    compact(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == compaction.FILES_BEFORE_COMPACTION
    assert not list(tmp_path.glob(".*"))


def test_a_folder_in_use_is_not_compacted(tmp_path: Path) -> None:
    for number in range(compaction.FILES_BEFORE_COMPACTION):
        write(tmp_path, unit_segments(f"item {number}"))
    with shared(tmp_path), shared(tmp_path):
        compact(tmp_path)
        assert len(list(tmp_path.glob("*.parquet"))) == compaction.FILES_BEFORE_COMPACTION


def test_an_index_has_every_unit_of_every_file(tmp_path: Path) -> None:
    for part in range(5):
        write(tmp_path, [segment for number in range(200) for segment in unit_segments(f"{part}-{number}")])
    index = Index(tmp_path, quiet)
    for part in range(5):
        for number in range(200):
            assert index.unit(f"{part}-{number}", 0).extents == EXTENTS


def test_every_trace_says_what_decoded_it_and_goes_on_to_when_files_are_made_one(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path, unit_segments(f"unit {number}"), None if number == 0 else f"kind {number % 2}")
    before_it_was_kept(next(iter(sorted(tmp_path.glob("*.parquet")))))
    for _ in range(2):
        index = Index(tmp_path, print)
        assert index.decoded_by([("unit 2", 0), ("unit 4", 0)]) == ["kind 0"]
        assert index.decoded_by([("unit 2", 0), ("unit 3", 0)]) == ["kind 0", "kind 1"]
        assert index.decoded_by([("unit 0", 0), ("never", 0)]) == []
        assert index.unit("unit 0", 0).extents == index.unit("unit 1", 0).extents != {}
        compact(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def before_it_was_kept(file: Path) -> None:
    """Makes of a file what was written when traces did not say what decoded them."""
    source = pq.ParquetFile(file)
    groups = [source.read_row_group(number).drop_columns("decoded_by") for number in range(source.num_row_groups)]
    with pq.ParquetWriter(
        file, groups[0].schema, compression="zstd", use_dictionary=["item", "path", "kind"]
    ) as writer:
        for group in groups:
            writer.write_table(group)
