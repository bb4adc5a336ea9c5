"""What is wrong with an experiment file, as it is said: where, what, and what to write instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.job.config import StepConfig
from orchestrator.terminal import one_line
from orchestrator.yaml_positions import MAX_COMPLAINTS
from orchestrator.yaml_positions import Path as ValuePath

SHOWN = 50
"""Complaints of one file that are shown."""

LONGEST_MESSAGE = 500
"""Characters of one complaint: a value or a key may have a million."""

_COMPARED = 300
"""Names, and characters of one, up to which a similar one is looked for."""


@dataclass(frozen=True, order=True)
class Complaint:
    """One thing wrong with an experiment: where, and what to do about it."""

    line: int
    message: str


class ExperimentError(Exception):
    """The experiment cannot be run as written. ``str()`` is one line per complaint, ``file:line: message``."""

    def __init__(self, file: str, complaints: list[Complaint]):
        self.complaints = sorted(set(complaints))
        lines = [
            f"{file}:{complaint.line}: {one_line(complaint.message, LONGEST_MESSAGE)}"
            for complaint in self.complaints[:SHOWN]
        ]
        if (more := len(self.complaints) - SHOWN) > 0:
            lines.append(f"{file}:{self.complaints[SHOWN].line}: and {more:,} more")
        super().__init__("\n".join(lines))


def explained(error: ValidationError, data: Any, model: type[BaseModel]) -> Iterator[tuple[ValuePath, str]]:
    """Pydantic's errors as (path in the file, message), those of one value joined: the branches of a union."""
    merged: dict[ValuePath, list[str]] = {}
    for detail in error.errors(include_url=False)[:MAX_COMPLAINTS]:
        path, value, missing = _locate(detail["loc"], data)
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "extra_forbidden":
            renamed = model.RENAMED.get(str(path[-1])) if issubclass(model, StepConfig) and len(path) == 1 else None
            meant = f"did you mean {renamed!r}?" if renamed else offer(path[-1], _keys_beside(path, model))
            message = f"is not a key here; {meant}"
        elif kind == "missing":
            path, message = (path, f"has no {missing}, which is needed")
        elif kind == "value_error":
            message = str(context["error"])
        else:
            message = f"{shown(value)}: {re.sub(r'^[A-Z][a-z]+ should', 'must', detail['msg'])}"
            if kind == "literal_error":
                options = re.findall(r"'([^']*)'", context["expected"])
                close = difflib.get_close_matches(str(value)[:_COMPARED], options, n=1, cutoff=0.5)
                message += f"; did you mean {close[0]}?" if close else ""
        merged.setdefault(path, []).append(message)
    around = {path[:depth] for path in merged for depth in range(len(path))}
    for path, messages in merged.items():
        # A value that fits no branch of a union fails each; a deeper complaint is about the branch it was meant for.
        if len(messages) > 1 and path in around:
            continue
        first, *rest = dict.fromkeys(messages)
        prefix = first[: first.find(": must") + 2]
        yield path, " or ".join([first, *(message.removeprefix(prefix) for message in rest)])


def _locate(location: tuple[int | str, ...], data: Any) -> tuple[ValuePath, Any, str]:
    """Follows pydantic's location through the file's values.

    Pydantic puts names of union branches and validators between keys; they are skipped. Returns the path, the value
    there, and the name of the key that is missing from it, if the location ends in one.
    """
    path: list[str | int] = []
    here: Any = data
    missing = ""
    for part in location:
        within = isinstance(here, list) and isinstance(part, int) and 0 <= part < len(here)
        if within or (isinstance(here, dict) and part in here):
            here = here[part]
            path.append(part)
            missing = ""
        else:
            missing = str(part)
    return tuple(path), here, missing


def _keys_beside(path: ValuePath, model: type[BaseModel]) -> list[str]:
    """The keys allowed where `path` ends, as far as plain nesting of models tells."""
    current: Any = model
    for part in path[:-1]:
        field = current.model_fields.get(part) if hasattr(current, "model_fields") else None
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
    keys = list(getattr(current, "model_fields", ()))
    return [*keys, "job"] if current is model and issubclass(model, StepConfig) else keys


def offer(value: object, options: Iterable[str]) -> str:
    """What could have been meant by a `value` that is none of the `options`."""
    options, text = list(options), str(value)
    close = difflib.get_close_matches(text[:_COMPARED], options[:_COMPARED], n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"allowed: {listed(options)}" if options else "remove it"


def listed(options: Sequence[str]) -> str:
    """The first of many."""
    return ", ".join(options[:20]) + ", …" * (len(options) > 20)


def shown(value: object) -> str:
    """A value as a file has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def dotted(path: ValuePath) -> str:
    """``steps.sweep.budgets[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
