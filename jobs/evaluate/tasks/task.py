"""A task as the sweep sees it: named items, each a question with its gold answer, and how answers are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Item:
    """One question. Its id is unique within the task and stable: results are kept and paired by it."""

    id: str
    question: str
    """All that is put to the model: options and the sentence of a prompt variant included."""
    answer: str
    """The gold answer; of a choice, the letter that the right option has in `question`."""
    letters: str = ""
    """What there is to choose from, of a choice: ``ABCD``."""


@dataclass(frozen=True)
class Task:
    """Items under the name that tables and curves use."""

    name: str
    items: tuple[Item, ...]
    type: str = "integer"
    """In :data:`jobs.evaluate.grading.answer_type.ANSWER_TYPES`."""
    fallback: bool = True
    """Whether an answer without a box or ``Answer:`` is taken to be its last number or letter."""

    @cached_property
    def hash(self) -> str:
        """Says whether two sweeps asked the same: sha256 over ids, questions and answers, in order."""
        content = [[item.id, item.question, item.answer] for item in self.items]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def by_id(self) -> Mapping[str, Item]:
        """The items under their ids."""
        return {item.id: item for item in self.items}
