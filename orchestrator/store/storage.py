"""Where a store's files are: a folder, or a key prefix of an object store.

::

    path = storage_path("runs")                 # a pathlib.Path
    path = storage_path("s3://bucket/prefix")   # a universal_pathlib.UPath, over fsspec's file system for that protocol
    storage_of(path / "file").write_bytes(b"…")  # in either

Paths of both kinds join alike. What is done to files is the affair of a
:class:`~orchestrator.store.protocol.Storage`, which :func:`storage_of` gives: the one place that tells the kinds apart.

An object store that is away for a while is waited for by the client library itself, with exponential backoff and
jitter, request by request: ``ORCHESTRATOR_STORE_PATIENCE`` seconds (300), from then on its error is the caller's.
Credentials come from the environment of each process (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``,
a role, …), never from the location.

Light: fsspec is imported for locations with ``://`` only.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.store.bucket_storage import DRIVERS, BucketStorage
from orchestrator.store.errors import StoreError
from orchestrator.store.local_storage import LocalStorage
from orchestrator.store.protocol import Storage

if TYPE_CHECKING:
    from upath import UPath

    StoragePath: TypeAlias = Path | UPath

PATIENCE = "ORCHESTRATOR_STORE_PATIENCE"
_PATIENCE_SECONDS = 300.0
IMPATIENCE = 5.0
"""For the first contact: an address that is wrong should not take minutes to be told."""

_ELSEWHERE = {"memory": "lives in one process", "data": "is its own content", "http": "cannot be written"}


def storage_of(path: StoragePath) -> Storage:
    """What can be done with the file or folder `path`."""
    return LocalStorage(path) if isinstance(path, Path) else BucketStorage(path)


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
    if protocol not in DRIVERS:
        return f"{location}: {protocol}:// is not a known kind of storage ({', '.join(DRIVERS)}): {example}"
    if not rest.partition("/")[0]:
        return f"{location} names no bucket: {example}"
    driver = DRIVERS[protocol]
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


def first_contact(path: StoragePath) -> Storage:
    """The storage of `path` for a first look: it does not wait for minutes."""
    return storage_of(storage_path(str(path), patience=IMPATIENCE))


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
