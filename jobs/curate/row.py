"""A row of the data: whole, as rules for quality see it, and without its text, as everything after them does.

A million traces are gigabytes. So a row is read, the rules are asked, and it is put down again; what stays in memory is
an :class:`Entry`, and its text is read once more where that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CurateRow:
    """One question with a trace and an answer."""

    key: str
    """Names it among all rows: its question's id, and its sample's number where a question has several."""
    id: str
    """Of the question: by it, other steps' results are looked up."""
    source: str
    question: str
    trace: str
    answer: str
    length: int
    """Of the trace: tokens where a tokenizer counts them or the row says, else words."""
    columns: Mapping[str, Any]
    """The whole row."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a row without its text: some hundred bytes."""

    key: str
    id: str
    source: str
    length: int
    correct: bool
    """Unless its verdict is another one."""
    domain: str
    """Empty where none was asked for, or there is none."""
    place: int
    """Where it stands in its file, in bytes."""
