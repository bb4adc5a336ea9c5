"""A replica's writer that is killed at a moment, for tests: ``python killed_writer.py FOLDER NUMBER KILLED_AT``.

It writes units and merges files as a replica does. A unit that is on disk is acknowledged on standard output. Before
its `KILLED_AT`-th look at the file system (0: never), it ends itself with SIGKILL.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from jobs.evaluate.sweep.tree import Key
from jobs.evaluate.traces import trace_writer
from jobs.evaluate.traces.files import Index
from jobs.evaluate.traces.trace_writer import TraceWriter
from orchestrator.store.storage import storage_of, storage_path
from tests.evaluate.traces.test_trace_files import EXTENTS, quiet, tokens_by_key, unit_segments

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

UNITS = 14
FANOUT = 3
MOMENTS = 200
"""Looks at its folder, at least, until it has written all."""
LOOKS = ("open", "os.rename", "os.remove")


def work(folder: str, number: int, killed_at: int) -> None:
    """Writes units of its own number."""
    trace_writer.FANOUT = FANOUT
    looks = count(1)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event in LOOKS and str(arguments[0]).startswith(folder) and next(looks) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    writer = TraceWriter(storage_path(folder))
    writer.decoded_by = '{"card": "a"}'
    for unit in range(UNITS):
        segments = unit_segments(f"{number}-{unit}")
        for part in (segments[:1], segments[1:]):  # the first is of a branch that is not decoded to its end
            for segment in part:
                writer.record(segment)
            writer.write(writer.take())
        os.write(1, f"{number}-{unit}\n".encode())
        writer.merge()
    writer.finish()


def assert_nothing_is_lost(folder: StoragePath, acknowledged: Counter[str]) -> None:
    """Every acknowledged unit is whole; nothing is there that was not written, and nothing twice."""
    index = Index(folder, quiet)
    for item in acknowledged:
        assert index.unit(item, 0).extents == EXTENTS, item
        assert tokens_by_key(index, item)[Key((), "thinking")] == list(range(40))
    digests = [row.digest for item in begun(folder) for row in index.unit(item, 0).rows]
    assert len(digests) == len(set(digests)) == index.size


def begun(folder: StoragePath) -> set[str]:
    """The units of which something is there."""
    names = [name for name in storage_of(folder).files() if name.endswith(".parquet")]
    tables = [pq.read_table(io.BytesIO((folder / name).read_bytes()), columns=["item"]) for name in names]
    return {item for table in tables for item in table["item"].to_pylist()}


@contextmanager
def forked(folder: Path, number: int, killed_at: int) -> Iterator[tuple[bool, Counter[str]]]:
    """Whether a writer was killed at that look at the file system, and what it had acknowledged."""
    read, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write_end, 1)
        try:
            work(str(folder), number, killed_at)
            os._exit(0)
        finally:  # a child that failed must not go on with the tests
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read) as said:
        acknowledged = Counter(said.read().split())
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    yield status == signal.SIGKILL, acknowledged


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
