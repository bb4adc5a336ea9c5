"""What chat servers answered, kept as it comes: answers cost money, and none is asked for twice.

One folder per (served model, what it is told, seed), beside those of decoded trees and as free of policies as they are.
Each file is written whole and never changed; a damaged one is set aside, and what it held is asked for again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.evaluate.chat.client import Answer
from orchestrator.store.records import DamagedRecord, read_record, write_record
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath


class Asked(NamedTuple):
    """One request of a sweep. Policies that make the same one share its answer."""

    item: str
    """:func:`jobs.evaluate.sweep.prompts.unit_key` of the question, as it was put."""
    sample: int
    effort: str | None
    budget: int | None


class Replies:
    """The answers in a folder."""

    def __init__(self, folder: StoragePath, report: Callable[[str], None]):
        """`report` takes one line for each damaged file."""
        self._folder = folder
        self._known: dict[Asked, Answer] = {}
        for name in storage_of(folder).files():
            if name == "key.json" or not name.endswith(".json"):
                continue
            file = folder / name
            try:
                entries: list[tuple[list[Any], dict[str, Any]]] = read_record(file)
            except DamagedRecord:
                aside = storage_of(file).set_aside(".damaged")
                report(f"file of answers {file} is damaged: they are asked for again; it is kept as {aside}")
                continue
            for asked, answer in entries:
                self._known.setdefault(Asked(*asked), Answer(**answer))

    def __contains__(self, asked: Asked) -> bool:
        return asked in self._known

    def __getitem__(self, asked: Asked) -> Answer:
        return self._known[asked]

    def add(self, answers: Iterable[tuple[Asked, Answer]]) -> None:
        """Keeps `answers`, if there are any. When this returns, they outlive a crash of the machine."""
        entries = list(answers)
        if not entries:
            return
        file = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.json"
        write_record(file, [[list(asked), asdict(answer)] for asked, answer in entries])
        for asked, answer in entries:
            self._known.setdefault(asked, answer)
