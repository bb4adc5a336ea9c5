"""Parquet files of a folder or a bucket, to read some of what is in them.

From a bucket, small files are read whole, in one request, and of large ones the ranges that are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.storage import storage_of, storage_path

if TYPE_CHECKING:
    pass

READ_WHOLE = 4 << 20
"""Bytes up to which a file in a bucket is read in one request: what a replica writes in seconds is far below."""


@contextmanager
def opened(file: str, **how: Any) -> Iterator[pq.ParquetFile]:
    """Opens a file of a folder or a bucket. Raises StoreError when the bucket cannot be reached."""
    storage = storage_of(storage_path(file))
    source: Any = file
    if storage.remote:
        head = storage.read_from(0, READ_WHOLE + 1)
        source = pa.BufferReader(head) if len(head) <= READ_WHOLE else storage.open()
    with pq.ParquetFile(source, page_checksum_verification=True, **how) as parquet:
        yield parquet
