"""A store's files on an object store, by fsspec's file system for its protocol.

A file appears whole, by a single PUT; what must exist once is a conditional one. Every change is seen at once, because
listings are never cached. What the client library complains about becomes a StoreError of one line; that something is
there, or is not, passes.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from orchestrator.store.errors import StoreError, StoreLost
from orchestrator.store.protocol import Stored

if TYPE_CHECKING:
    from upath import UPath

DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""The packages that open object stores, by protocol."""

BLOCK = 4 << 20
"""Bytes that are fetched at least where ranges of an object are read."""


@dataclass(frozen=True)
class BucketStorage:
    """A :class:`~orchestrator.store.protocol.Storage` behind a key prefix."""

    path: UPath
    remote = True
    local = None

    def read_bytes(self) -> bytes | None:
        try:
            with self._explained():
                content: bytes = self.path.fs.cat_file(self.path.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content

    def read_from(self, offset: int, most: int) -> bytes:
        with self._explained():
            part: bytes = self.path.fs.cat_file(self.path.path, start=offset, end=offset + most)
        return part

    def open(self) -> BinaryIO:
        return cast(BinaryIO, _Ranges(self))

    def write_bytes(self, content: bytes, durable: bool = True) -> None:
        try:
            with self._explained():
                self.path.fs.pipe_file(self.path.path, content)
        except FileNotFoundError as error:  # the bucket is not
            raise StoreLost(self._unusable(error)) from error

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[BinaryIO]:
        content = io.BytesIO()
        yield content
        self.write_bytes(content.getvalue())

    def write_once(self, content: bytes) -> bool:
        try:
            with self._explained():
                self.path.fs.pipe_file(self.path.path, content, mode="create")
        except FileExistsError:
            # It may be ours: the answer to a request that succeeded was lost, and the client tried again.
            return self.read_bytes() == content
        except FileNotFoundError as error:  # the bucket is not
            raise StoreLost(self._unusable(error)) from error
        return True

    def remove(self) -> None:
        with suppress(FileNotFoundError), self._explained():
            self.path.unlink()

    def set_aside(self, suffix: str) -> str | None:
        under = self.path.with_suffix(suffix)
        try:
            with self._explained():
                self.path.fs.mv(self.path.path, under.path)
        except FileNotFoundError:
            return None
        return under.name

    def make_folder(self) -> None:
        """There are no folders: a prefix is there as soon as a file is."""

    def remove_tree(self) -> None:
        with suppress(FileNotFoundError), self._explained():
            self.path.fs.rm(self.path.path, recursive=True)

    def files(self) -> dict[str, Stored]:
        prefix = f"{self.path.path.rstrip('/')}/"
        with self._explained():
            listed: Mapping[str, Mapping[str, Any]] = self.path.fs.find(prefix, detail=True)
        return {name.removeprefix(prefix): _stored(info) for name, info in sorted(listed.items()) if name != prefix}

    def folders(self) -> list[UPath]:
        try:
            with self._explained():
                listed = self.path.fs.ls(self.path.path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [PurePosixPath(info["name"]).name for info in listed if info["type"] == "directory"]
        return [self.path / name for name in sorted(names)]

    def digest(self) -> str:
        with self._explained(), self.path.fs.open(self.path.path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def put(self, folder: Path, names: Iterable[str]) -> None:
        names = list(names)
        with self._explained():
            self.path.fs.put([str(folder / name) for name in names], [(self.path / name).path for name in names])

    def fetch(self, names: Iterable[str], to: Path) -> None:
        names = list(names)
        if not names:
            return
        for name in names:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self.path.fs.get([(self.path / name).path for name in names], [str(to / name) for name in names])

    def check_reachable(self) -> None:
        try:
            with suppress(FileNotFoundError), self._explained():
                self.path.fs.cat_file((self.path / ".nothing").path)
        except StoreLost as error:
            raise StoreError(str(error)) from error

    def check_writable(self) -> None:
        """Also that what is there cannot be created again: leases rest on that."""
        twice = BucketStorage(self.path / f".created-{uuid.uuid4().hex[:8]}")
        try:
            created = [twice.write_once(content) for content in (b"one", b"another")]
            twice.remove()
        except StoreLost as error:
            raise StoreError(str(error)) from error
        if created != [True, False]:
            raise StoreError(
                f"store {self.path} creates what is there already, so two runs could take the same step: use a "
                "server that knows conditional PUTs (If-None-Match: *), or a folder that all machines mount"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, NotADirectoryError):
            raise
        except _complaints(self.path.protocol) as error:
            raise StoreLost(self._unusable(error)) from error

    def _unusable(self, error: Exception) -> str:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return (
            f"store {self.path} cannot be used ({reason}): check that the bucket exists and can be reached, and that "
            "the environment has credentials for it, then run the same command again; what is there is kept"
        )


def _complaints(protocol: str) -> tuple[type[Exception], ...]:
    if DRIVERS[protocol] == "s3fs":
        from botocore.exceptions import BotoCoreError

        return OSError, BotoCoreError
    if DRIVERS[protocol] == "gcsfs":
        from aiohttp import ClientError
        from gcsfs.retry import HttpError
        from google.auth.exceptions import GoogleAuthError

        return OSError, ClientError, HttpError, GoogleAuthError
    return (OSError,)


def _stored(info: Mapping[str, Any]) -> Stored:
    when = info.get("LastModified") or info.get("last_modified") or info.get("mtime")
    version = info.get("ETag") or info.get("etag") or when
    return Stored(int(info["size"]), str(version), when.timestamp() if isinstance(when, datetime) else 0.0)


class _Ranges(io.RawIOBase):
    """A large object, of which ranges are read. What the store complains about is no damage to the file."""

    def __init__(self, storage: BucketStorage):
        self._storage = storage
        with storage._explained():
            self._file = storage.path.fs.open(storage.path.path, "rb", block_size=BLOCK)

    def readinto(self, buffer: Any) -> int:
        with self._storage._explained():
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
