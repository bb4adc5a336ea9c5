"""JSON files in a store: written whole, read as they were written or not at all.

Records that results rest on carry a checksum; one that is damaged is an error of whoever needs it. Notes (how far a
step is, what it cost, what it ran with) carry one among their keys. Nothing rests on them, so a damaged one is told of
once, in a line, and taken as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.store.errors import StoreError
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath


class DamagedRecord(Exception):
    """A record whose content is not what was written: torn, edited, or rotten."""


def write_json_atomically(path: StoragePath, value: Any, durable: bool = True) -> None:
    """Replaces `path` in one step: a reader, or a crash, sees the old content or the new one, never a part.

    See :func:`orchestrator.store.storage.write_bytes` for `durable`; what is not is read by :func:`read_passing`.

    Raises StoreError where a disk is full.
    """
    storage_of(path).write_bytes(json.dumps(value, indent=1).encode(), durable)


def read_json(path: StoragePath) -> Any:
    """The value in `path`, or None where there is no such file. Raises DamagedRecord where it is not JSON."""
    try:
        content = storage_of(path).read_bytes()
    except IsADirectoryError as error:
        raise DamagedRecord(f"{path} is a folder, where a file belongs") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}; see whose it is, and that its disk is sound"
        ) from error
    if content is None:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"{path} is not JSON: {error}") from error


T = TypeVar("T")


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def write_note(path: StoragePath, note: Mapping[str, Any], durable: bool = True) -> None:
    """Writes what helps and nothing rests on, for :func:`read_note`."""
    write_json_atomically(path, {**note, "checksum": _checksum(note)}, durable)


def read_note(path: StoragePath, shape: type[T], without: str) -> T | None:
    """What stands in such a file, if it is of that shape: a dataclass, or a TypedDict.

    Damage is told of once, on stderr, with what is not known `without` it.
    """
    try:
        note = read_json(path)
        if note is None:
            return None
        if not isinstance(note, dict):
            raise DamagedRecord(f"{path} is damaged: it has no keys")
        checksum = note.pop("checksum", None)
        if checksum is not None and checksum != _checksum(note):
            raise DamagedRecord(f"{path} is damaged: its content does not match its checksum")
        read: T = _adapter(shape).validate_python(note)  # type: ignore[arg-type]
        return read
    except ValidationError as error:
        first = error.errors()[0]
        damage = f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except DamagedRecord as error:
        damage = str(error)
    tell(f"{damage}: {without}; remove the file to silence this line")
    return None


def read_as(path: StoragePath, shape: type[T]) -> T:
    """What stands in a file. Raises DamagedRecord where there is none, or it is not of that shape."""
    value = read_json(path)
    try:
        typed: T = _adapter(shape).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedRecord(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return typed


@cache
def tell(line: str) -> None:
    """Says something on stderr, once."""
    print(line, file=sys.stderr, flush=True)


def read_passing(path: StoragePath, shape: Any) -> Any:
    """What stands in a file, if it is of that shape; None where it is not, or there is none."""
    try:
        value = read_json(path)
        return None if value is None else _adapter(shape).validate_python(value)
    except (DamagedRecord, ValidationError):
        return None


def _checksum(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_record(path: StoragePath, record: Any) -> None:
    """Writes a record atomically, with the checksum that :func:`read_record` verifies."""
    write_json_atomically(path, {"checksum": _checksum(record), "record": record})


def read_record(path: StoragePath) -> Any:
    """A record written by :func:`write_record`, or None. Raises DamagedRecord where the checksum does not match."""
    wrapped = read_json(path)
    if wrapped is None:
        return None
    if not isinstance(wrapped, dict) or wrapped.get("checksum") != _checksum(wrapped.get("record")):
        raise DamagedRecord(f"{path} is damaged: its content does not match its checksum")
    return wrapped["record"]
