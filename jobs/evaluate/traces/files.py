"""Where traces are kept: Parquet files of segments under one folder per (model, prompt, sampling, seed, numerics).

A file is written under a temporary name, flushed to disk, and renamed to a name of its own that sorts by time (in a
bucket: sent by a single PUT); nothing is ever changed in place. So any number of replicas and sweeps add to one folder
without talking to each other, and a reader sees whole files only. A file that is damaged all the same (a torn disk, a
flipped bit: pages carry checksums) is set aside and reported, and what it held is decoded again.

Thinking and answers go to separate row groups: an index reads the small columns only, grading reads tokens of answers
only, and thinking, nearly all of the volume, is read for the units that are continued.

Many small files become one (:mod:`jobs.evaluate.traces.compaction`), which is there before the first of them goes. Who
dies in between leaves rows twice; an index takes each digest once. Every row keeps the time at which it was first
written, so which of two competing segments counts does not change. A reader that finds a file gone refreshes its index.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, pairwise, starmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.sweep.tree import Key
from jobs.evaluate.traces.parquet import opened
from jobs.evaluate.traces.segments import UNSURE, Resolved, Row, Segment, Sureness, resolve, root
from orchestrator.job.errors import StepError
from orchestrator.store.errors import StoreLost, no_space
from orchestrator.store.records import write_json_atomically
from orchestrator.store.storage import storage_of, storage_path

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

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
        ("confidence", pa.list_(pa.float16())),  # of each token of thinking, where that is kept
        ("logprob", pa.float32()),  # of an answer up to here, in the mean, where that is kept
        ("entropy", pa.float32()),  # of an answer's first token, where that is kept
    ]
)
WRITTEN = pa.field("written", pa.int64())
"""In merged files: when each row was first written, in nanoseconds since 1970. Other files have it in their name."""
MERGED = SCHEMA.append(WRITTEN)
ADDED = ("decoded_by", "logprob", "entropy", "confidence")
"""Columns that older files do not have."""
REPEATING = ["item", "path", "kind"]
NUMBERS = ("start", "length", "ended", "digest", "parent", "logprob", "entropy", "file", "group", "row")
"""What an index holds of every segment, beside its key; the last three say where its tokens are."""

GROUP_BYTES = 8 << 20
"""Tokens of a row group, uncompressed: what is read at least to get one segment's."""

READ_AT_ONCE = 32
"""Files of a bucket that are read at the same time: each is a request, and waiting."""
UnitId = tuple[str, int]


def traces_folder(traces: StoragePath, determined_by: Mapping[str, object]) -> StoragePath:
    """The folder of what these values determine; it says so in ``key.json``."""
    text = json.dumps(determined_by, sort_keys=True, indent=1)
    folder = traces / hashlib.sha256(text.encode()).hexdigest()[:16]
    storage_of(folder).make_folder()
    if storage_of(folder / "key.json").read_bytes() is None:
        write_json_atomically(folder / "key.json", determined_by)
    return folder


def write(folder: StoragePath, segments: Sequence[Segment], decoded_by: str | None = None) -> StoragePath | None:
    """Adds a file with `segments`, if there are any. When this returns, they outlive a crash of the machine.

    `decoded_by` is what decoded them, as :func:`jobs.evaluate.traces.provenance.decoded_by` says it.

    Raises StepError when there is no space left for it, StoreError when its bucket cannot be reached.
    """
    if not segments:
        return None
    with new_file(folder, time.time_ns(), SCHEMA) as (path, add):
        add(_table((segment for segment in segments if segment.key.kind == "thinking"), decoded_by))
        add(_table((segment for segment in segments if segment.key.kind != "thinking"), decoded_by))
    return path


def _table(segments: Iterable[Segment], decoded_by: str | None) -> pa.Table:
    segments = list(segments)
    rows = [
        (
            *(s.item, s.sample, json.dumps(s.key.path), s.key.kind, s.key.cut),
            *(s.start, len(s.tokens), s.ended, s.digest, s.parent, s.tokens),
        )
        for s in segments
    ]
    *columns, tokens = list(zip(*rows, strict=True)) or [()] * len(SCHEMA.names[: SCHEMA.get_field_index("decoded_by")])
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=False)]
    # Not value by value: nearly all of a table is tokens.
    flat = pa.array(np.frombuffer(b"".join(array("i", each).tobytes() for each in tokens), np.int32))
    kinds = pa.array([decoded_by] * len(rows), pa.string())
    return pa.table([*arrays, _lists(tokens, flat), kinds, *_beliefs(segments)], schema=SCHEMA)


def _lists(parts: Sequence[Sequence[Any]], flat: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *map(len, parts)]), pa.int32()), flat)


def _beliefs(segments: Sequence[Segment]) -> list[pa.Array]:
    """The columns of how sure the model was; null where none of them says."""
    kinds = [SCHEMA.field(name).type for name in ("confidence", "logprob", "entropy")]
    columns: list[pa.Array] = [pa.nulls(len(segments), kind) for kind in kinds]
    if any(s.confidences for s in segments):
        parts = [s.confidences for s in segments]
        columns[0] = _lists(parts, pa.array(np.fromiter(chain.from_iterable(parts), np.float16)))
    if any(not math.isnan(s.sureness.logprob) for s in segments):
        columns[1:] = [pa.array(each, kinds[1]) for each in zip(*(s.sureness for s in segments), strict=True)]
    return columns


Add = Callable[[pa.Table], None]
"""Adds a row group."""


@contextmanager
def new_file(folder: StoragePath, written: int, schema: pa.Schema) -> Iterator[tuple[StoragePath, Add]]:
    """A file that appears, whole, when the block ends without an error: its path, and what adds a row group to it."""
    path = folder / f"{written:020d}-{uuid.uuid4().hex[:12]}.parquet"
    try:
        with storage_of(path).writing() as file, _writer(file, schema) as writer:
            yield path, _adding(writer)
    except StoreLost as error:
        if no_space(error.__cause__) is None:
            raise
        raise StepError(f"traces: {error}") from error


def _writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=[*REPEATING, "decoded_by"], write_page_checksum=True
    )


def _adding(writer: pq.ParquetWriter) -> Add:
    return lambda table: writer.write_table(table) if table.num_rows else None


def with_all_columns(table: pa.Table, file: str) -> pa.Table:
    """Rows of a file that may be from before all of it was kept, with the column :data:`WRITTEN`, last; `table` may
    lack columns that are not for an index."""
    for name in ADDED:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, SCHEMA.field(name).type))
    if WRITTEN.name not in table.column_names:
        written = int(file.rpartition("/")[2].partition("-")[0])
        table = table.append_column(WRITTEN, pa.array(np.full(table.num_rows, written, np.int64)))
    return table.select([name for name in MERGED.names if name in table.column_names])


@contextmanager
def reading(file: str, **how: Any) -> Iterator[pq.ParquetFile]:
    """Opens a file. Raises MovedFile where it is gone, DamagedFile where what is read of it is not what was written."""
    try:
        with opened(file, **how) as parquet:
            yield parquet
    except FileNotFoundError as error:
        raise MovedFile(file) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFile(file) from error


def _sureness(logprob: float | None, entropy: float | None) -> Sureness:
    return UNSURE if logprob is None or entropy is None else Sureness(logprob, entropy)


def read_confidences(places: Iterable[tuple[str, int, int]]) -> Iterator[tuple[float, ...]]:
    """As :func:`read_tokens`: of each token of thinking, where that is kept; nothing where it is not."""
    for file, group, row in places:
        kept = _group(file, group, "confidence")[row]
        yield tuple(kept.values.to_numpy().astype(float).tolist()) if kept.is_valid else ()


def read_tokens(places: Iterable[tuple[str, int, int]]) -> Iterator[tuple[int, ...]]:
    """Tokens at (file, row group, row in it), in the order given.

    Raises DamagedFile. Row groups are kept a while, so places that lie together are read together.
    """
    for file, group, row in places:
        tokens = _group(file, group, "tokens")
        yield tuple(tokens[row].values.to_numpy().tolist())


class DamagedFile(Exception):
    """A trace file that cannot be read, or holds what was not written. Its argument is the path."""


class MovedFile(DamagedFile):
    """A trace file that is gone: what it held is in another, which a refreshed index knows."""


@lru_cache(maxsize=32)
def _group(file: str, group: int, column: str) -> Any:
    with reading(file) as parquet:
        if column not in parquet.schema_arrow.names:
            rows = parquet.metadata.row_group(group).num_rows
            return pa.nulls(rows, SCHEMA.field(column).type)
        return parquet.read_row_group(group, columns=[column], use_threads=False)[column].combine_chunks()


class Index:
    """What a folder of traces holds, without tokens. Sees later files after :meth:`refresh`."""

    def __init__(self, folder: StoragePath, report: Callable[[str], None] | None):
        """`report` takes one line for each damaged file, which is set aside; None leaves it there, for whoever only
        looks."""
        self._folder = folder
        self._report = report
        self._files: dict[str, pa.Table] = {}
        self._names: list[str] = []
        """Of the files, by the number that rows have of theirs."""
        self._keys: dict[tuple[str, str, int], Key] = {}
        self._units: dict[UnitId, tuple[int, int]] = {}
        self._rows: dict[str, list[Any]] = {name: [] for name in (*NUMBERS, "key", "decoded_by")}
        self.refresh()

    @property
    def size(self) -> int:
        """Different segments in the folder, those that count for nothing included."""
        return len(self._rows["key"])

    def refresh(self) -> None:
        """Reads the files that were not there before, and forgets those that are gone."""
        while True:
            there = [str(self._folder / name) for name in storage_of(self._folder).files() if name.endswith(".parquet")]
            changed = self._forget(set(self._files).difference(there))
            fresh = [file for file in there if file not in self._files]
            moved = False
            for file, table in zip(fresh, self._read(fresh), strict=True):
                if isinstance(table, MovedFile):
                    moved = True  # since it was listed: what it held is in a file that was not there yet
                elif isinstance(table, DamagedFile):
                    self._set_aside(file)
                else:
                    changed = True
                    self._files[file] = table
            if changed:
                self._arrange()
            if not moved:
                return

    def _read(self, fresh: Sequence[str]) -> Iterator[pa.Table | DamagedFile]:
        """What is indexed of each file, or why it cannot be. From a bucket, many at a time."""
        if not storage_of(self._folder).remote:
            yield from map(_small_columns, fresh)
            return
        with ThreadPoolExecutor(READ_AT_ONCE) as threads:
            yield from threads.map(_small_columns, fresh)

    def discard(self, file: str) -> None:
        """Forgets a damaged file and sets it aside, saying so, unless it is gone: then what it held is looked for."""
        if not self._set_aside(file):
            self.refresh()
        elif self._forget({file}):
            self._arrange()

    def _set_aside(self, file: str) -> bool:
        if self._report is None:
            return False
        if (aside := storage_of(storage_path(file)).set_aside(".damaged")) is not None:
            self._report(f"trace file {file} is damaged: what it held is decoded again; it is kept as {aside}")
        return aside is not None

    def _forget(self, gone: Iterable[str]) -> bool:
        """Drops files; whether any was there."""
        there = [file for file in gone if file in self._files]
        for file in there:
            del self._files[file]
        return bool(there)

    def unit(self, item: str, sample: int) -> Resolved:
        """What is known of one unit."""
        low, high = self._units.get((item, sample), (0, 0))
        if low == high:
            return Resolved()
        columns = [self._rows[name][low:high] for name in ("key", "start", "length", "ended", "digest", "parent")]
        sure = starmap(_sureness, zip(*(self._rows[name][low:high] for name in ("logprob", "entropy")), strict=True))
        return resolve(root(item, sample), map(Row, *columns, range(low, high), sure))

    def decoded_by(self, units: Iterable[UnitId]) -> list[str]:
        """What decoded the traces of `units`, each kind once, as far as it was kept."""
        kinds = {self._rows["decoded_by"][row.place] for unit in units for row in self.unit(*unit).rows}
        return sorted(kind for kind in kinds if kind is not None)

    def places(self, rows: Iterable[Row]) -> list[tuple[str, int, int]]:
        """Where the tokens of `rows` lie, for :func:`read_tokens`."""
        numbers, groups, inside = (self._rows[name] for name in ("file", "group", "row"))
        return [(self._names[numbers[row.place]], groups[row.place], inside[row.place]) for row in rows]

    def _arrange(self) -> None:
        """Sorts all rows by unit, older ones first, so that each unit is a slice.

        A segment that is there twice, because a compaction was cut short, is taken once.
        """
        self._names = list(self._files)
        self._units, self._rows = {}, {name: [] for name in self._rows}
        numbered = [
            table.append_column("file", pa.array(np.full(table.num_rows, number, np.int32)))
            for number, table in enumerate(self._files.values())
        ]
        if not sum(table.num_rows for table in numbered):
            return
        table = pa.concat_tables(numbered).unify_dictionaries().combine_chunks()
        _, once = np.unique(table["digest"].to_numpy(), return_index=True)
        table = table.take(pa.array(np.sort(once))).combine_chunks()
        items, samples = table["item"].chunk(0), table["sample"].to_numpy()
        codes = items.indices.to_numpy()
        order = np.lexsort((table[WRITTEN.name].to_numpy(), samples, codes))
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
        known = self._keys
        keys = []
        for name in zip(*columns, table["cut"].to_pylist(), strict=True):
            key = known.get(name)
            if key is None:
                path, kind, cut = name
                key = known[name] = Key(tuple(json.loads(path)), kind, cut)
            keys.append(key)
        return keys


def _small_columns(file: str) -> pa.Table | DamagedFile:
    """All but the tokens of a file, with the row group and the row in which each is, and when it was written."""
    groups, rows, tables = [], [], []
    try:
        with reading(file, read_dictionary=REPEATING) as parquet:
            columns = [name for name in parquet.schema_arrow.names if name not in ("tokens", "confidence")]
            for group in range(parquet.num_row_groups):
                table = with_all_columns(parquet.read_row_group(group, columns=columns, use_threads=False), file)
                tables.append(table.replace_schema_metadata())
                groups.append(np.full(table.num_rows, group, np.int32))
                rows.append(np.arange(table.num_rows, dtype=np.int32))
            return (
                pa.concat_tables(tables)
                .append_column("group", pa.array(np.concatenate(groups)))
                .append_column("row", pa.array(np.concatenate(rows)))
            )
    except DamagedFile as error:
        return error
