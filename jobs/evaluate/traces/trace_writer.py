"""A replica's own trace files: written by size and age, and merged while it decodes.

One writer per replica. What it wrote is its own to merge: as soon as :data:`FANOUT` of its files are of one generation
they become one file of the next, until a file is large. So a replica that has written n times has left at most
FANOUT · log n files (base FANOUT) and one for each 64 MiB, and every row was written again at most log n times.

Merging is for a thread beside the event loop; :meth:`TraceWriter.write` and :meth:`TraceWriter.merge` may run at the
same time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from jobs.evaluate.traces.compaction import COMPACTED_BYTES, enough, merge
from jobs.evaluate.traces.files import DamagedFile, write
from jobs.evaluate.traces.segments import Segment

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

WRITE_SECONDS = (1.0, 10.0)
"""Age at which what was decoded is written, at least and at most: what a dying replica loses, in decoding time."""
WRITE_SHARE = 1 / 60
"""Between the two, it is so much of the time for which the replica has worked."""
WRITE_TOKENS = 1 << 20
"""Tokens at which it is written before."""
FANOUT = 16
"""Files of a generation that become one of the next."""


class TraceWriter:
    """What a replica decoded, on its way to disk."""

    def __init__(
        self,
        folder: StoragePath,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder = folder
        self.decoded_by: str | None = None
        """What decodes, as :func:`jobs.evaluate.traces.provenance.decoded_by` says it, once it has started."""
        self._clock = clock
        self._began = clock()
        self._unwritten: list[Segment] = []
        self._tokens = 0
        self._written = clock()
        self._generations: list[list[tuple[StoragePath, int]]] = [[]]
        """Files and their bytes, by how often their rows were merged; large ones are forgotten."""
        self._listing = threading.Lock()

    def record(self, segment: Segment) -> None:
        """Takes a segment, to be written with the next file."""
        self._unwritten.append(segment)
        self._tokens += len(segment.tokens)

    @property
    def due(self) -> float:
        """Seconds until a file should be written."""
        if self._tokens >= WRITE_TOKENS:
            return 0.0
        now, (least, most) = self._clock(), WRITE_SECONDS
        age = min(most, max(least, WRITE_SHARE * (now - self._began)))
        return max(0.0, self._written + age - now)

    def take(self) -> Sequence[Segment]:
        """Everything that was recorded since the last time; for :meth:`write`."""
        taken, self._unwritten, self._tokens = self._unwritten, [], 0
        self._written = self._clock()
        return taken

    def write(self, segments: Sequence[Segment]) -> None:
        """Writes a file. When this returns, the segments outlive a crash of the machine.

        Raises StepError when there is no space left, StoreError when the bucket cannot be reached.
        """
        path = write(self._folder, segments, self.decoded_by)
        if path is not None:
            with self._listing:
                self._generations[0].append((path, path.stat().st_size))

    @property
    def mergeable(self) -> bool:
        """Whether there is something for :meth:`merge` to do."""
        with self._listing:
            return any(len(files) >= FANOUT for files in self._generations)

    def merge(self) -> None:
        """Merges each generation that is full. Raises what :meth:`write` does."""
        number = 0
        while number < len(self._generations):
            while len(self._generations[number]) >= FANOUT:
                self._merge(number, FANOUT)
            number += 1

    def finish(self) -> None:
        """Merges all that is left of small files: nothing will be written any more."""
        while (left := [file for files in reversed(self._generations) for file in files])[1:]:
            self._generations = [left]
            self._merge(0, len(left))

    def _merge(self, number: int, most: int) -> None:
        """Merges as many of the oldest files of a generation as make a large one, at most so many."""
        with self._listing:
            files = self._generations[number][:most]
        some = files[: enough([size for _, size in files])]
        merged: list[tuple[StoragePath, int]] = []
        with suppress(DamagedFile):  # whoever reads the file next reports it
            path = merge(self._folder, [path for path, _ in some])
            merged = [(path, path.stat().st_size)]
        with self._listing:
            del self._generations[number][: len(some)]
            if number + 1 == len(self._generations):
                self._generations.append([])
            self._generations[number + 1] += [(path, size) for path, size in merged if size < COMPACTED_BYTES]
