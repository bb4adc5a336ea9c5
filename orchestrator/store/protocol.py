"""What a store needs of whatever keeps its files: :class:`Storage`, of one file or folder.

Two classes have it: :class:`~orchestrator.store.local_storage.LocalStorage`, of a folder, and
:class:`~orchestrator.store.bucket_storage.BucketStorage`, of an object store. To every question both give the same
answer; what differs by nature (whether a look is a request, whether processes can work in place) each says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath


@dataclass(frozen=True)
class Stored:
    """A file below a folder, as a listing tells it."""

    size: int
    """Bytes."""
    version: str
    """Changes whenever the content may have."""
    changed: float
    """When it was last written, in seconds since 1970."""


class Storage(Protocol):
    """One file or folder, and what can be done with it. All of it may raise StoreError, in one line."""

    @property
    def remote(self) -> bool:
        """Whether every look is a request, which takes time and costs money."""

    @property
    def local(self) -> Path | None:
        """The same on this machine, to work in; None where processes need a copy."""

    def read_bytes(self) -> bytes | None:
        """The content of a file; None where there is none."""

    def read_from(self, offset: int, most: int) -> bytes:
        """At most so many bytes of a file from `offset` on, which must be before its end."""

    def open(self) -> BinaryIO:
        """A file to read ranges of."""

    def write_bytes(self, content: bytes, durable: bool = True) -> None:
        """Replaces a file in one step: a reader, or a crash, sees the old content or the new one, never a part.

        That a machine loses its power counts as a crash where it is `durable`. To wait for the disk takes
        milliseconds: too much for what is written many times a minute and is of no use to anyone tomorrow.
        """

    def writing(self, durable: bool = True) -> AbstractContextManager[BinaryIO]:
        """The same, written bit by bit: the file appears when the block ends without an error."""

    def write_once(self, content: bytes) -> bool:
        """Creates a file; False where there is one. Of several that try at the same time, one succeeds."""

    def remove(self) -> None:
        """Removes a file, if it is there."""

    def set_aside(self, suffix: str) -> str | None:
        """Gives a file another suffix; returns its new name, or None where it is gone, because others did so."""

    def make_folder(self) -> None:
        """Sees that files can be written in it."""

    def remove_tree(self) -> None:
        """Removes a folder with all that is in it, if it is there."""

    def files(self) -> dict[str, Stored]:
        """Every file below a folder, by its relative name, in order; nothing where there is no such folder."""

    def folders(self) -> Sequence[StoragePath]:
        """The folders in a folder, by name; none where there is no such folder."""

    def digest(self) -> str:
        """SHA-256 of a file, in hexadecimal. Of an object, all of it is fetched."""

    def put(self, folder: Path, names: Iterable[str]) -> None:
        """Writes these files of a local folder into this one."""

    def fetch(self, names: Iterable[str], to: Path) -> None:
        """Writes these files of this folder into a local one."""

    def check_reachable(self) -> None:
        """Raises StoreError, within seconds, where an object store does not answer, or does not let us read."""

    def check_writable(self) -> None:
        """Creates a folder and writes to it. Raises StoreError, saying why, where that fails."""
