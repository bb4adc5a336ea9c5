"""Fewer, larger trace files: what a night writes, in the thousands, is read in seconds the next morning.

A replica merges what it wrote itself while it runs (:class:`~jobs.evaluate.traces.trace_writer.TraceWriter`), so no two
processes merge the same files and nothing needs a lock. What dead replicas left is merged at the end of a sweep, once
nobody uses the folder, which a lock says. Object stores have no locks: there it stays as it is, a few dozen files for
each replica that was killed.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from jobs.evaluate.traces.files import GROUP_BYTES, MERGED, Add, DamagedFile, new_file, reading, with_all_columns
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

FILES_BEFORE_COMPACTION = 16
COMPACTED_BYTES = 64 << 20
"""Files from this size on are left as they are."""
ABANDONED_SECONDS = 3600.0
"""Age from which a file under a temporary name is that of a process which was killed."""


@contextmanager
def shared(folder: StoragePath) -> Iterator[None]:
    """Marks the folder as in use, which keeps others from compacting what is not theirs. Any number of sweeps may."""
    storage_of(folder).make_folder()
    if (local := storage_of(folder).local) is None:
        yield
        return
    with (local / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def compact(folder: StoragePath) -> None:
    """Merges small files, whoever left them, unless someone uses the folder, or it is in a bucket."""
    if (local := storage_of(folder).local) is None:
        return
    with (local / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _remove_abandoned(local)
        sizes = {file: file.stat().st_size for file in sorted(local.glob("*.parquet"))}
        small = [file for file, size in sizes.items() if size < COMPACTED_BYTES]
        if len(small) < FILES_BEFORE_COMPACTION:
            return
        with suppress(DamagedFile):  # whoever reads the file next reports it
            while len(small) > 1:
                merge(local, [small.pop(0) for _ in range(enough([sizes[file] for file in small]))])


def _remove_abandoned(folder: Path) -> None:
    """Removes what was being written by processes that were killed."""
    for file in folder.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                file.unlink()


def enough(sizes: Sequence[int]) -> int:
    """How many of the first files come to a large one, or all."""
    total = np.cumsum(sizes)
    return min(len(sizes), 1 + int(np.searchsorted(total, COMPACTED_BYTES)))


def merge(folder: StoragePath, paths: Sequence[StoragePath]) -> StoragePath:
    """Makes one file of several; returns it. Sources go once it outlives a crash.

    Raises DamagedFile where one cannot be read; then nothing has changed.
    """
    first = min(int(path.name.partition("-")[0]) for path in paths)
    with new_file(folder, first, MERGED) as (merged, add):
        _gather([str(path) for path in paths], add)
    for path in paths:
        storage_of(path).remove()
    return merged


def _gather(paths: Sequence[str], add: Add) -> None:
    """Adds the rows of many files, each once, in larger row groups, thinking before answers."""
    seen: set[int] = set()
    for thinking in (True, False):
        gathered: list[pa.Table] = []
        for path in paths:
            for table in _row_groups(path, thinking):
                digests = table["digest"].to_pylist()
                first = {digest: row for row, digest in reversed(list(enumerate(digests))) if digest not in seen}
                gathered.append(table.take(pa.array(sorted(first.values()), pa.int32())))
                seen.update(first)
            if sum(table.nbytes for table in gathered) >= GROUP_BYTES:
                add(pa.concat_tables(gathered))
                gathered = []
        if gathered:
            add(pa.concat_tables(gathered))


def _row_groups(file: str, thinking: bool) -> Iterator[pa.Table]:
    """Row groups of thinking, or of answers, with the time at which each row was written. Raises DamagedFile."""
    with reading(file) as parquet:
        for group in range(parquet.num_row_groups):
            table = with_all_columns(parquet.read_row_group(group, use_threads=False), file)
            if (table["kind"][0].as_py() == "thinking") == thinking:
                yield table
