"""A row of the data, as rules and selections see it."""

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
    domain: str
    """Empty where none was asked for."""
    columns: Mapping[str, Any]
    """The whole row."""
