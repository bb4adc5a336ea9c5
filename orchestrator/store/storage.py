"""Where a store's files are: a folder, or a key prefix of an object store, and what can be done to files in either.

::

    place("runs")                 # a pathlib.Path
    place("s3://bucket/prefix")   # a universal_pathlib.UPath, over fsspec's file system for that protocol

Both join, list and read alike, so most code takes either. What differs is here. A file appears whole in both: under a
temporary name that is then renamed in a folder, by a single PUT in a bucket. What must exist once (:func:`write_once`)
is a conditional PUT. Every change of an object store is seen at once, because listings are never cached.

An object store that is away for a while is waited for by the client library itself, with exponential backoff and
jitter, request by request: ``ORCHESTRATOR_STORE_PATIENCE`` seconds (300), from then on its error is the caller's.
Credentials come from the environment of each process (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``,
a role, …), never from the location.

Light: fsspec is imported for locations with ``://`` only.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from upath import UPath

    StoragePath: TypeAlias = Path | UPath

PATIENCE = "ORCHESTRATOR_STORE_PATIENCE"
_PATIENCE_SECONDS = 300.0
IMPATIENCE = 5.0
"""For the first contact: an address that is wrong should not take minutes to be told."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_ELSEWHERE = {"memory": "lives in one process", "data": "is its own content", "http": "cannot be written"}
_DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""The packages that open object stores, by protocol."""


class StoreError(Exception):
    """The store cannot be used as asked: not reachable, not writable, full, or in use by a live run."""


class StoreLost(StoreError):
    """The store does not do what it did, or should: it is away, or full."""


def no_space(error: BaseException) -> str | None:
    """What to say where an error means that a disk is full, whoever met it; None for any other."""
    if not isinstance(error, OSError) or error.errno not in NO_SPACE:
        return None
    where = f" for {error.filename}" if error.filename else ""
    return (
        f"no space left{where} ({error.strerror}): free some on this machine and run the same command again; what is "
        "there already is kept"
    )


def complaint(location: str) -> str | None:
    """What is wrong with the location of a store, as far as it tells by itself."""
    protocol, separator, rest = location.partition("://")
    if not separator or protocol in ("file", "local"):
        return None
    example = "give a folder that all nodes mount, or a bucket: s3://bucket/prefix"
    if "@" in rest.partition("/")[0]:
        return f"{protocol}://… has credentials in it: leave them out, and set them in the environment of every node"
    if why := _ELSEWHERE.get(protocol.removesuffix("s") if protocol == "https" else protocol):
        return f"{location} {why}: {example}"
    if protocol not in _DRIVERS:
        return f"{location}: {protocol}:// is no storage that is known here ({', '.join(_DRIVERS)}): {example}"
    if not rest.partition("/")[0]:
        return f"{location} names no bucket: {example}"
    driver = _DRIVERS[protocol]
    if importlib.util.find_spec(driver) is None:
        return f"{location} needs the package {driver}, which is not installed: pip install {driver}"
    return None


def storage_path(location: str, patience: float | None = None) -> StoragePath:
    """The folder or the key prefix that `location` names. Raises StoreError for one that :func:`complaint` is about."""
    if problem := complaint(location):
        raise StoreError(f"store: {problem}")
    protocol, separator, rest = location.partition("://")
    if not separator:
        return Path(location)
    if protocol in ("file", "local"):
        return Path(rest)
    from upath import UPath

    return UPath(location.rstrip("/"), **options(protocol, patience))


def options(protocol: str, patience: float | None = None) -> dict[str, Any]:
    """What fsspec is told to open a `protocol`: no cache of listings, and how long to try, in seconds."""
    if protocol not in ("s3", "s3a"):
        return {"use_listings_cache": False}
    seconds = float(os.environ.get(PATIENCE, _PATIENCE_SECONDS)) if patience is None else patience
    retries = {"mode": "standard", "total_max_attempts": _attempts(seconds)}
    return {
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": retries},
    }


def _attempts(seconds: float) -> int:
    """How often botocore tries within about so long: its n-th pause takes between 0 and min(2^n, 20) seconds."""
    attempts, waited = 1, 0.0
    while waited < seconds:
        waited += min(2 ** (attempts - 1), 20) / 2
        attempts += 1
    return attempts


def is_remote(location: StoragePath) -> bool:
    """Whether it is on an object store."""
    return not isinstance(location, Path)


@contextmanager
def explained(location: StoragePath) -> Iterator[None]:
    """Turns what an object store complains about into a StoreError of one line.

    What a folder does passes, and so does that something is there, or is not.
    """
    if isinstance(location, Path):
        yield
        return
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        raise
    except _complaints(location.protocol) as error:
        raise StoreLost(_unusable(location, error)) from error


def _unusable(location: StoragePath, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return (
        f"store {location} cannot be used ({reason}): see that the bucket exists, can be reached, and that the "
        "environment has credentials for it, and run the same command again; what is there is kept"
    )


def _complaints(protocol: str) -> tuple[type[Exception], ...]:
    if _DRIVERS[protocol] == "s3fs":
        from botocore.exceptions import BotoCoreError

        return OSError, BotoCoreError
    if _DRIVERS[protocol] == "gcsfs":
        from aiohttp import ClientError
        from gcsfs.retry import HttpError
        from google.auth.exceptions import GoogleAuthError

        return OSError, ClientError, HttpError, GoogleAuthError
    return (OSError,)


def check_bucket(location: str) -> None:
    """Raises StoreError, within seconds, where an object store does not answer, or does not let us read."""
    root = storage_path(location, patience=IMPATIENCE)
    assert not isinstance(root, Path)
    try:
        with suppress(FileNotFoundError), explained(root):
            root.fs.cat_file((root / ".nothing").path)
    except StoreLost as error:
        raise StoreError(str(error)) from error


def read_bytes(path: StoragePath) -> bytes | None:
    """The content of a file; None where there is none."""
    try:
        if isinstance(path, Path):
            return path.read_bytes()
        with explained(path):
            content: bytes = path.fs.cat_file(path.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content


def read_from(path: StoragePath, offset: int, most: int) -> bytes:
    """At most so many bytes of a file from `offset` on, which must be before its end."""
    if not isinstance(path, Path):
        with explained(path):
            part: bytes = path.fs.cat_file(path.path, start=offset, end=offset + most)
        return part
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(most)


def write_bytes(path: StoragePath, content: bytes, durable: bool = True) -> None:
    """Replaces a file in one step: a reader, or a crash, sees the old content or the new one, never a part.

    That a machine loses its power counts as a crash where it is `durable`. To wait for the disk takes milliseconds: too
    much for what is written many times a minute and is of no use to anyone tomorrow.

    Raises StoreError where a disk is full.
    """
    if not isinstance(path, Path):
        try:
            with explained(path):
                path.fs.pipe_file(path.path, content)
        except FileNotFoundError as error:  # the bucket is not
            raise StoreLost(_unusable(path, error)) from error
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _space_in(path.parent), temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        try:
            temporary.replace(path)
        except IsADirectoryError as error:
            raise StoreError(f"{path} is a folder, where a file belongs: remove it") from error
    finally:
        temporary.unlink(missing_ok=True)


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


def write_once(path: UPath, content: bytes) -> bool:
    """Creates an object; False where there is one. Of several that try at the same time, one succeeds.

    Raises StoreError.
    """
    try:
        with explained(path):
            path.fs.pipe_file(path.path, content, mode="create")
    except FileExistsError:
        # It may be ours: the answer to a request that succeeded was lost, and the client tried again.
        return read_bytes(path) == content
    except FileNotFoundError as error:  # the bucket is not
        raise StoreLost(_unusable(path, error)) from error
    return True


def remove(path: StoragePath) -> None:
    """Removes a file, if it is there."""
    with suppress(FileNotFoundError), explained(path):
        path.unlink()


def set_aside(path: StoragePath, suffix: str) -> str | None:
    """Gives a file another suffix; returns its new name, or None where it is gone, because others did so."""
    try:
        if isinstance(path, Path):
            return path.rename(path.with_suffix(suffix)).name
        under = path.with_suffix(suffix)
        with explained(path):
            path.fs.mv(path.path, under.path)
        return under.name
    except FileNotFoundError:
        return None


def remove_tree(folder: StoragePath) -> None:
    """Removes a folder with all that is in it, if it is there."""
    if isinstance(folder, Path):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return
    with suppress(FileNotFoundError), explained(folder):
        folder.fs.rm(folder.path, recursive=True)


@dataclass(frozen=True)
class Stored:
    """A file below a folder, as a listing tells it."""

    size: int
    """Bytes."""
    version: str
    """Changes whenever the content may have."""
    changed: float
    """When it was last written, in seconds since 1970."""


def files(folder: StoragePath) -> dict[str, Stored]:
    """Every file below `folder`, by its relative name, in order; nothing where there is no such folder."""
    if isinstance(folder, Path):
        local = {}
        for path in sorted(folder.rglob("*")):
            with suppress(FileNotFoundError):  # it may go at any time
                stat = path.stat()
                if path.is_file():
                    version = f"{stat.st_size}-{stat.st_mtime_ns}"
                    local[path.relative_to(folder).as_posix()] = Stored(stat.st_size, version, stat.st_mtime)
        return local
    prefix = f"{folder.path.rstrip('/')}/"
    with explained(folder):
        listed: Mapping[str, Mapping[str, Any]] = folder.fs.find(prefix, detail=True)
    return {name.removeprefix(prefix): _stored(info) for name, info in sorted(listed.items()) if name != prefix}


def folders(folder: StoragePath) -> list[StoragePath]:
    """The folders in `folder`, by name; none where there is no such folder."""
    try:
        if isinstance(folder, Path):
            names = [path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        else:
            with explained(folder):
                listed = folder.fs.ls(folder.path, detail=True)
            names = [PurePosixPath(info["name"]).name for info in listed if info["type"] == "directory"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(names)]


def _stored(info: Mapping[str, Any]) -> Stored:
    when = info.get("LastModified") or info.get("last_modified") or info.get("mtime")
    version = info.get("ETag") or info.get("etag") or when
    return Stored(int(info["size"]), str(version), when.timestamp() if isinstance(when, datetime) else 0.0)


def digest(path: StoragePath) -> str:
    """SHA-256 of a file, in hexadecimal. Of an object, all of it is fetched."""
    if not isinstance(path, Path):
        with explained(path), path.fs.open(path.path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
