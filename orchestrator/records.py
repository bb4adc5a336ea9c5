"""JSON files in a store: written whole, read as they were written or not at all.

Records that others rely on carry a checksum; one that is damaged is reported, never taken for something else.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from orchestrator.places import read_bytes, write_bytes

if TYPE_CHECKING:
    from orchestrator.places import Place


class DamagedRecord(Exception):
    """A record whose content is not what was written: torn, edited, or rotten."""


def write_json_atomically(path: Place, value: Any, durable: bool = True) -> None:
    """Replaces `path` in one step: a reader, or a crash, sees the old content or the new one, never a part.

    See :func:`orchestrator.places.write_bytes` for `durable`; what is not is read by :func:`read_passing`.

    Raises StoreError where a disk is full.
    """
    write_bytes(path, json.dumps(value, indent=1).encode(), durable)


def read_json(path: Place) -> Any:
    """The value in `path`, or None where there is no such file. Raises DamagedRecord where it is not JSON."""
    content = read_bytes(path)
    if content is None:
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise DamagedRecord(f"{path} is not JSON: {error}") from error


def read_passing(path: Place) -> Any:
    """What stands in a file that was not written to last; None where there is none, or its machine lost its power."""
    try:
        return read_json(path)
    except DamagedRecord:
        return None


def _checksum(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_record(path: Place, record: Any) -> None:
    """Writes a record atomically, with the checksum that :func:`read_record` verifies."""
    write_json_atomically(path, {"checksum": _checksum(record), "record": record})


def read_record(path: Place) -> Any:
    """A record written by :func:`write_record`, or None. Raises DamagedRecord where the checksum does not match."""
    wrapped = read_json(path)
    if wrapped is None:
        return None
    if not isinstance(wrapped, dict) or wrapped.get("checksum") != _checksum(wrapped.get("record")):
        raise DamagedRecord(f"{path} is damaged: its content does not match its checksum")
    return wrapped["record"]
