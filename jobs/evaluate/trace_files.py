"""Where traces are kept: Parquet files of segments under one folder per (model, prompt, sampling, seed, numerics).

A file is written under a temporary name, flushed to disk, and renamed to a name of its own that sorts by time (in a
bucket: sent by a single PUT); nothing is ever changed in place. So any number of replicas and sweeps add to one folder
without talking to each other, and a reader sees whole files only. A file that is damaged all the same (a torn disk, a
flipped bit: pages carry checksums) is set aside and reported, and what it held is decoded again.

Thinking and answers go to separate row groups: an index reads the small columns only, grading reads tokens of answers
only, and thinking, nearly all of the volume, is read for the units that are continued.

Many small files are made one when nobody uses the folder, which is what a lock is for. Object stores have none, and
what could take its place (an object that is renewed as long as someone reads) would let a reader that slept for a
minute find its files gone. So there files stay as they were written: an index of them costs a request each, many at a
time.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import time
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.stored_parquet import opened
from jobs.evaluate.traces import Resolved, Row, Segment, resolve, root
from jobs.evaluate.tree import Key
from orchestrator.places import NO_SPACE, files, place, read_bytes, set_aside, write_bytes
from orchestrator.records import write_json_atomically
from orchestrator.step import StepError

if TYPE_CHECKING:
    from upath import UPath

    from orchestrator.places import Place

SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("sample", pa.int32()),
        ("path", pa.string()),  # a JSON list: as a string it is dictionary-encoded whole
        ("kind", pa.string()),
        ("cut", pa.int32()),
        ("start", pa.int32()),
        ("length", pa.int32()),
        ("ended", pa.bool_()),
        ("digest", pa.uint64()),
        ("parent", pa.uint64()),
        ("tokens", pa.list_(pa.int32())),
        ("decoded_by", pa.string()),  # what decoded it (see provenance); null in files from before that was kept
    ]
)
SMALL = [name for name in SCHEMA.names if name != "tokens"]
REPEATING = ["item", "path", "kind"]
NUMBERS = ("start", "length", "ended", "digest", "parent", "file", "group", "row")
"""What an index holds of every segment, beside its key; the last three say where its tokens are."""

GROUP_BYTES = 8 << 20
"""Tokens of a row group, uncompressed: what is read at least to get one segment's."""
FILES_BEFORE_COMPACTION = 16
COMPACTED_BYTES = 64 << 20
"""Files from this size on are left as they are."""

READ_AT_ONCE = 32
"""Files of a bucket that are read at the same time: each is a request, and waiting."""
UnitId = tuple[str, int]


def traces_folder(traces: Place, determined_by: Mapping[str, object]) -> Place:
    """The folder of what these values determine; it says so in ``key.json``."""
    text = json.dumps(determined_by, sort_keys=True, indent=1)
    folder = traces / hashlib.sha256(text.encode()).hexdigest()[:16]
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    if read_bytes(folder / "key.json") is None:
        write_json_atomically(folder / "key.json", determined_by)
    return folder


def write(folder: Place, segments: Sequence[Segment], decoded_by: str | None = None) -> None:
    """Adds a file with `segments`, if there are any. When this returns, they outlive a crash of the machine.

    `decoded_by` is what decoded them, as :func:`jobs.evaluate.provenance.decoded_by` says it.

    Raises StepError when there is no space left for it, StoreError when its bucket cannot be reached.
    """
    if not segments:
        return
    now = time.time_ns()
    with _new_file(folder, now) if isinstance(folder, Path) else _new_object(folder, now) as add:
        add(_table((segment for segment in segments if segment.key.kind == "thinking"), decoded_by))
        add(_table((segment for segment in segments if segment.key.kind != "thinking"), decoded_by))


def _table(segments: Iterable[Segment], decoded_by: str | None) -> pa.Table:
    rows = [
        (
            *(s.item, s.sample, json.dumps(s.key.path), s.key.kind, s.key.cut),
            *(s.start, len(s.tokens), s.ended, s.digest, s.parent, s.tokens),
        )
        for s in segments
    ]
    *columns, tokens = list(zip(*rows, strict=True)) or [()] * (len(SCHEMA) - 1)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=False)]
    # Not value by value: nearly all of a table is tokens.
    flat = pa.array(np.frombuffer(b"".join(array("i", each).tobytes() for each in tokens), np.int32))
    offsets = pa.array(np.cumsum([0, *map(len, tokens)]), pa.int32())
    kinds = pa.array([decoded_by] * len(rows), pa.string())
    return pa.table([*arrays, pa.ListArray.from_arrays(offsets, flat), kinds], schema=SCHEMA)


def _name(order: int) -> str:
    return f"{order:020d}-{uuid.uuid4().hex[:12]}"


@contextmanager
def _new_object(folder: UPath, order: int) -> Iterator[Callable[[pa.Table], None]]:
    """The same in a bucket: it is sent when the block ends without an error."""
    content = io.BytesIO()
    with _writer(content) as writer:
        yield lambda table: writer.write_table(table) if table.num_rows else None
    write_bytes(folder / f"{_name(order)}.parquet", content.getvalue())


def _writer(file: Any) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file, SCHEMA, compression="zstd", use_dictionary=[*REPEATING, "decoded_by"], write_page_checksum=True
    )


@contextmanager
def _new_file(folder: Path, order: int) -> Iterator[Callable[[pa.Table], None]]:
    """A file that appears, whole, when the block ends without an error. Each table added is a row group.

    Raises StepError when there is no space left for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = _name(order)
    temporary = folder / f".{name}"
    try:
        with temporary.open("wb") as file:
            with _writer(file) as writer:
                yield lambda table: writer.write_table(table) if table.num_rows else None
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / f"{name}.parquet")
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise StepError(
            f"traces: no space left in {folder} ({error.strerror}): free some, or set another store, and run the same "
            "command again; what is there already is kept"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def shared(folder: Place) -> Iterator[None]:
    """Marks the folder as in use, which keeps others from compacting it. Any number of sweeps may."""
    if not isinstance(folder, Path):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def compact(folder: Place) -> None:
    """Makes one file of many small ones, unless someone uses the folder, or it is in a bucket.

    The new file sorts where the oldest did. A crash before the old ones are gone leaves segments twice, which is
    harmless: they have the same digests.
    """
    if not isinstance(folder, Path):
        return
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        small = [file for file in sorted(folder.glob("*.parquet")) if file.stat().st_size < COMPACTED_BYTES]
        if len(small) < FILES_BEFORE_COMPACTION:
            return
        with suppress(DamagedFile):  # nothing has changed then; whoever reads the file next reports it
            with _new_file(folder, int(small[0].name.partition("-")[0])) as add:
                _merge(small, add)
            for file in small:
                file.unlink()


def _merge(files: Sequence[Path], add: Callable[[pa.Table], None]) -> None:
    """Gathers the row groups of many files into larger ones, thinking before answers."""
    for thinking in (True, False):
        gathered: list[pa.Table] = []
        for file in files:
            gathered += _row_groups(file, thinking)
            if sum(table.nbytes for table in gathered) >= GROUP_BYTES:
                add(pa.concat_tables(gathered))
                gathered = []
        if gathered:
            add(pa.concat_tables(gathered))


def _row_groups(file: Path, thinking: bool) -> Iterator[pa.Table]:
    """Row groups of thinking, or of answers. Raises DamagedFile."""
    try:
        with opened(str(file)) as parquet:
            for group in range(parquet.num_row_groups):
                table = _with_all_columns(parquet.read_row_group(group, use_threads=False))
                if (table["kind"][0].as_py() == "thinking") == thinking:
                    yield table
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(str(file)) from error


def read_tokens(places: Iterable[tuple[str, int, int]]) -> Iterator[tuple[int, ...]]:
    """Tokens at (file, row group, row in it), in the order given.

    Raises DamagedFile. Row groups are kept a while, so places that lie together are read together.
    """
    for file, group, row in places:
        tokens = _group_tokens(file, group)
        yield tuple(tokens[row].values.to_numpy().tolist())


class DamagedFile(Exception):
    """A trace file that cannot be read, or holds what was not written. Its argument is the path."""


@lru_cache(maxsize=32)
def _group_tokens(file: str, group: int) -> Any:
    try:
        with opened(file) as parquet:
            return parquet.read_row_group(group, columns=["tokens"], use_threads=False)["tokens"].combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(file) from error


class Index:
    """What a folder of traces holds, without tokens. Sees later files after :meth:`refresh`."""

    def __init__(self, folder: Place, report: Callable[[str], None]):
        """`report` takes one line for each damaged file."""
        self._folder = folder
        self._report = report
        self._files: list[str] = []
        self._tables: list[pa.Table] = []
        self._keys: dict[tuple[str, str, int], Key] = {}
        self._units: dict[UnitId, tuple[int, int]] = {}
        self._rows: dict[str, list[Any]] = {name: [] for name in (*NUMBERS, "key", "decoded_by")}
        self.refresh()

    @property
    def size(self) -> int:
        """Segments in the folder, those that count for nothing included."""
        return len(self._rows["key"])

    def refresh(self) -> None:
        """Reads the files that were not there before."""
        known = set(self._files)
        there = [str(self._folder / name) for name in files(self._folder) if name.endswith(".parquet")]
        fresh = [file for file in there if file not in known]
        for file, table in zip(fresh, self._read(fresh), strict=True):
            if table is None:
                self.discard(file)
                continue
            number = np.full(table.num_rows, len(self._files), np.int32)
            self._files.append(file)
            self._tables.append(table.append_column("file", pa.array(number)))
        if fresh:
            self._arrange()

    def _read(self, fresh: Sequence[str]) -> Iterator[pa.Table | None]:
        """What is indexed of each file; None for one that is damaged. From a bucket, many at a time."""
        if isinstance(self._folder, Path):
            yield from map(_undamaged, fresh)
            return
        with ThreadPoolExecutor(READ_AT_ONCE) as threads:
            yield from threads.map(_undamaged, fresh)

    def discard(self, file: str) -> None:
        """Forgets a damaged file and sets it aside, saying so, unless that was done already."""
        if (aside := set_aside(place(file), ".damaged")) is not None:
            self._report(f"trace file {file} is damaged: what it held is decoded again; it is kept as {aside}")
        if file in self._files:
            number = self._files.index(file)
            self._tables[number] = self._tables[number].slice(0, 0)
            self._arrange()

    def unit(self, item: str, sample: int) -> Resolved:
        """What is known of one unit."""
        low, high = self._units.get((item, sample), (0, 0))
        if low == high:
            return Resolved()
        columns = [self._rows[name][low:high] for name in ("key", "start", "length", "ended", "digest", "parent")]
        return resolve(root(item, sample), map(Row, *columns, range(low, high)))

    def decoded_by(self, units: Iterable[UnitId]) -> list[str]:
        """What decoded the traces of `units`, each kind once, as far as it was kept."""
        found = {self._rows["decoded_by"][row.place] for unit in units for row in self.unit(*unit).rows}
        return sorted(kind for kind in found if kind is not None)

    def places(self, rows: Iterable[Row]) -> list[tuple[str, int, int]]:
        """Where the tokens of `rows` lie, for :func:`read_tokens`."""
        numbers, groups, inside = (self._rows[name] for name in ("file", "group", "row"))
        return [(self._files[numbers[row.place]], groups[row.place], inside[row.place]) for row in rows]

    def _arrange(self) -> None:
        """Sorts all rows by unit, older files first, so that each unit is a slice."""
        if not self._tables:
            return
        table = pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()
        items, samples = table["item"].chunk(0), table["sample"].to_numpy()
        codes = items.indices.to_numpy()
        order = np.lexsort((samples, codes))
        table = table.take(pa.array(order))
        codes, samples = codes[order], samples[order]
        breaks = np.flatnonzero((np.diff(codes) != 0) | (np.diff(samples) != 0)) + 1
        bounds = [0, *breaks.tolist(), len(codes)]
        names = items.dictionary.to_pylist()
        self._units = {
            (names[codes[low]], int(samples[low])): (low, high) for low, high in pairwise(bounds) if low < high
        }
        self._rows = {name: table[name].to_pylist() for name in NUMBERS}
        self._rows["key"] = self._piece_keys(table)
        kinds = table["decoded_by"].combine_chunks().dictionary_encode()
        names = [*kinds.dictionary.to_pylist(), None]
        self._rows["decoded_by"] = [names[code] for code in kinds.indices.fill_null(len(names) - 1).to_pylist()]

    def _piece_keys(self, table: pa.Table) -> list[Key]:
        """The key of every row; equal keys are one object."""
        columns = [table[name].cast(pa.string()).to_pylist() for name in ("path", "kind")]
        found = self._keys
        keys = []
        for name in zip(*columns, table["cut"].to_pylist(), strict=True):
            key = found.get(name)
            if key is None:
                path, kind, cut = name
                key = found[name] = Key(tuple(json.loads(path)), kind, cut)
            keys.append(key)
        return keys


def _undamaged(file: str) -> pa.Table | None:
    try:
        return _small_columns(file)
    except (pa.ArrowException, OSError):
        return None


def _with_all_columns(table: pa.Table) -> pa.Table:
    """A row group of a file that may be from before it was kept what decoded it."""
    if "decoded_by" in table.column_names:
        return table
    return table.append_column("decoded_by", pa.nulls(table.num_rows, pa.string()))


def _small_columns(file: str) -> pa.Table:
    """All but the tokens of a file, with the row group and the row in which each is."""
    groups, rows, tables = [], [], []
    with opened(file, read_dictionary=REPEATING) as parquet:
        for group in range(parquet.num_row_groups):
            table = _with_all_columns(parquet.read_row_group(group, columns=SMALL, use_threads=False))
            tables.append(table)
            groups.append(np.full(table.num_rows, group, np.int32))
            rows.append(np.arange(table.num_rows, dtype=np.int32))
    return (
        pa.concat_tables(tables)
        .append_column("group", pa.array(np.concatenate(groups)))
        .append_column("row", pa.array(np.concatenate(rows)))
    )
