"""A store's files in a folder: of this machine, or of a file system that all machines mount.

A file appears whole: it is written under a temporary name, which begins with a dot, and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.store.errors import NO_SPACE, StoreError, StoreLost
from orchestrator.store.protocol import Stored

_LOCK = ".create.lock"
"""Held while a file is created that must not be there: in a folder that has no others' files."""


@dataclass(frozen=True)
class LocalStorage:
    """A :class:`~orchestrator.store.protocol.Storage` on a disk."""

    path: Path
    remote = False

    @property
    def local(self) -> Path:
        return self.path

    def read_bytes(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_from(self, offset: int, most: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(most)

    def open(self) -> BinaryIO:
        return self.path.open("rb")

    def write_bytes(self, content: bytes, durable: bool = True) -> None:
        with self.writing(durable) as file:
            file.write(content)

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[BinaryIO]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            with _space_in(self.path.parent), temporary.open("wb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            try:
                temporary.replace(self.path)
            except IsADirectoryError as error:
                raise StoreError(f"{self.path} is a folder, where a file belongs: remove it") from error
            if durable:
                _flush_names(self.path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def write_once(self, content: bytes) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                return self.read_bytes() == content
            self.write_bytes(content)
            return True

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def set_aside(self, suffix: str) -> str | None:
        try:
            return self.path.rename(self.path.with_suffix(suffix)).name
        except FileNotFoundError:
            return None

    def make_folder(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def remove_tree(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def files(self) -> dict[str, Stored]:
        listed = {}
        for path in sorted(self.path.rglob("*")):
            with suppress(FileNotFoundError):  # it may go at any time
                stat = path.stat()
                if path.is_file() and path.name != _LOCK:
                    version = f"{stat.st_size}-{stat.st_mtime_ns}"
                    listed[path.relative_to(self.path).as_posix()] = Stored(stat.st_size, version, stat.st_mtime)
        return dict(sorted(listed.items()))

    def folders(self) -> list[Path]:
        try:
            return sorted(path for path in self.path.iterdir() if path.is_dir() and not path.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def put(self, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            with (folder / name).open("rb") as source, LocalStorage(self.path / name).writing() as file:
                shutil.copyfileobj(source, file)

    def fetch(self, names: Iterable[str], to: Path) -> None:
        LocalStorage(to).put(self.path, names)

    def check_reachable(self) -> None:
        pass

    def check_writable(self) -> None:
        try:
            self.make_folder()
            probe = self.path / f".writable-{uuid.uuid4().hex[:8]}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"store {self.path} cannot be written: {error.strerror}; choose another with store:"
            ) from None


@contextmanager
def _space_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise StoreLost(
            f"no space left in {folder} ({error.strerror}): free some, or set another store, and run the same command "
            "again; what is there already is kept"
        ) from error


def _flush_names(folder: Path) -> None:
    """Sees that a rename outlives a crash of the machine."""
    names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(names)
    finally:
        os.close(names)
