"""Parquet files of a folder or a bucket, to read some of what is in them.

From a bucket, small files are read whole, in one request, and of large ones the ranges that are needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.storage import explained, read_from, storage_path

if TYPE_CHECKING:
    from upath import UPath

READ_WHOLE = 4 << 20
"""Bytes up to which a file in a bucket is read in one request: what a replica writes in seconds is far below."""


@contextmanager
def opened(file: str, **how: Any) -> Iterator[pq.ParquetFile]:
    """Opens a file of a folder or a bucket. Raises StoreError when the bucket cannot be reached."""
    path = storage_path(file)
    source: Any = file
    if not isinstance(path, Path):
        head = read_from(path, 0, READ_WHOLE + 1)
        source = pa.BufferReader(head) if len(head) <= READ_WHOLE else _Ranged(path)
    with pq.ParquetFile(source, page_checksum_verification=True, **how) as parquet:
        yield parquet


class _Ranged(io.RawIOBase):
    """A large file in a bucket, of which ranges are read. What the bucket complains about is no damage to the file."""

    def __init__(self, path: UPath):
        self._path = path
        with explained(path):
            self._file = path.fs.open(path.path, "rb", block_size=READ_WHOLE)

    def readinto(self, buffer: Any) -> int:
        with explained(self._path):
            read: int = self._file.readinto(buffer)
        return read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
