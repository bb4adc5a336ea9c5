"""What a step *is*, as a hash: its job, the config fields that change its result, and what it takes as input.

Where and how fast a step runs never enters, so one experiment has one identity on a laptop, on a cloud and on 16 GPUs.
A value without a canonical form is an error rather than a guess: ``repr`` of an object holds addresses, and a float NaN
is not equal to itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.job.config import StepConfig
from orchestrator.job.local_files import regular_files

LENGTH = 16
"""Hex digits of a fingerprint: 64 bits, so a collision among a million steps of one name has odds of 3e-8."""


def canonical(value: Any, at: str = "") -> str:
    """The one text that stands for a plain value: sorted keys, no spaces, shortest floats.

    Raises TypeError, naming the place, for anything that is not null, bool, int, float, str, list or a mapping of str.
    """
    _check(value, at)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _check(value: Any, at: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{at or 'value'}: key {key!r} is not text, so it has no canonical form")
            _check(item, f"{at}.{key}" if at else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{at}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{at or 'value'}: {value} has no canonical form")
    elif value is not None and not isinstance(value, bool | int | str):
        raise TypeError(f"{at or 'value'}: a {type(value).__name__} has no canonical form")


def fingerprint(identity: Mapping[str, Any]) -> str:
    """The hash of an identity, `LENGTH` hex digits."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:LENGTH]


def identity(kind: str, config: StepConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What determines the result of a step, as plain values.

    `inputs` maps the names of the steps that `config` refers to, to their versions. A reference is identified by
    what it refers to, not by that step's name: renaming a step recomputes nothing.
    """
    fields = config.model_dump(mode="json", exclude={"resources"})
    external = {field: digest_path(path) for field, path in sorted(config.external_inputs().items())}
    return {
        "job": kind,
        "version": type(config).VERSION,
        "config": _resolve(fields, {f"${{{step}}}": f"${{{value}}}" for step, value in inputs.items()}),
        "external": external,
    }


def _resolve(value: Any, replacements: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolve(item, replacements) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(item, replacements) for item in value]
    if isinstance(value, str) and value in replacements:
        return replacements[value]
    return value


def digest_path(path: Path) -> str:
    """SHA-256 over a file, or over the relative names and contents of a folder's files. Reads all of it."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else regular_files(path):
        name = "" if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:LENGTH]


def differences(before: Any, after: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every leaf at which two identities differ: (dotted field, before, after); None where one has no such field."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            field = f"{at}.{key}" if at else key
            if key not in before or key not in after:
                yield field, before.get(key), after.get(key)
            else:
                yield from differences(before[key], after[key], field)
    elif canonical(before) != canonical(after):
        yield at, before, after
