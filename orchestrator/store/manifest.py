"""What a folder consists of: the size and the SHA-256 of every file, which is read for that only where it has to be.

::

    with hashed_file(path) as file:          # a process of a job
        file.write(b"…")
    manifest_of(folder)                      # reads all but `path`

A file that is written by :func:`hashed_file` is hashed on its way to the disk, and its digest remembered for as long as
the file is what it was when it was closed, under whatever name. It is the digest of what was *meant* to be written, so
a disk that wrote something else is found out too. Processes hand digests on in a manifest, with a version of each file.

What a library writes by itself, to a path, cannot be hashed so. It is read once, when the process that wrote it says
that its output is whole: just after it was written, from the page cache where that has room for it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from orchestrator.store.storage import StoragePath

Manifest = Mapping[str, Mapping[str, Any]]
"""By name: ``bytes``, ``sha256``, and ``version``, which changes whenever the content may have."""

_digests: dict[tuple[int, int, int, int], str] = {}
"""By :func:`_content`: of files that this process wrote."""


def hashed_file(path: Path) -> io.BufferedWriter:
    """A new file to write from its beginning to its end."""
    return io.BufferedWriter(_HashedFile(path))


def remember(path: Path, digest: str) -> None:
    """That a file, as it is now, has that SHA-256: whoever calls this has hashed what went into it."""
    _digests[_content(path.stat())] = digest


def manifest_of(folder: StoragePath, known: Manifest | None = None) -> dict[str, dict[str, Any]]:
    """The files below a folder. Those that are as an earlier manifest has it, one that is `known`, are not read."""
    manifest = {}
    for name, file in storage_of(folder).files().items():
        before = (known or {}).get(name)
        if before is not None and before["version"] == file.version:
            digest = before["sha256"]
        else:
            digest = _digest(folder / name)
        manifest[name] = {"bytes": file.size, "sha256": digest, "version": file.version}
    return manifest


def _digest(path: StoragePath) -> str:
    local = storage_of(path).local
    written = None if local is None else _digests.get(_content(local.stat()))
    return written or storage_of(path).digest()


def _content(stat: os.stat_result) -> tuple[int, int, int, int]:
    """Differs between files, and between the contents of one; a new name changes nothing."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class _HashedFile(io.FileIO):
    def __init__(self, path: Path):
        super().__init__(path, "wb")
        self._sha = hashlib.sha256()

    def write(self, content: Buffer, /) -> int:
        written = super().write(content)
        self._sha.update(memoryview(content).cast("B")[:written])
        return written

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            _digests[_content(os.fstat(self.fileno()))] = self._sha.hexdigest()
        super().close()
