"""What an answer may be: one record per type, of what a reference answer looks like and how answers are graded. Light.

Installed packages add theirs by the entry points of ``scaling_orchestrator.graders``. The functions of a record are
called in the processes of ``workers`` (but for those that are about a task's own rows and answers): whatever
one takes too long on, or fails at, costs one verdict. See docs/grading.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from orchestrator.job.extensions import ExtensionPoint, known

if TYPE_CHECKING:
    from jobs.evaluate.grading.extraction import Extracted
    from jobs.evaluate.grading.reader import Text


def _any(gold: str) -> str | None:
    """Nothing is wrong with it."""
    return None


@dataclass(frozen=True)
class AnswerType:
    """How answers of a type are read and compared."""

    extract: Callable[[Text], Extracted]
    """What an answer's text says, and by which rule."""
    same: Callable[[str, str], bool | None]
    """Whether the gold answer and what was extracted are the same; None where `undecided` has to say."""
    gold: Callable[[str], str] = str
    """What a gold answer says, of which there may be more than that: worked steps and a box, or ``#### 18``."""
    problem: Callable[[str], str | None] = _any
    """What is wrong with a gold answer, such as ``is not an integer``; None where nothing is."""
    meaning: Callable[[str], str] | None = None
    """What was extracted, written one way: answers of one meaning are one vote. None: as numbers and words are."""
    undecided: Literal["mathematics", "judge", "sandbox"] | None = None
    """Who decides where `same` does not."""
    row: Callable[[Mapping[str, Any]], str] | None = None
    """The gold answer of a row that has it in columns of its own. Raises ValueError saying what is wrong with it."""
    listed: Callable[[list[Any]], str] | None = None
    """A gold answer that is a list in its row, as text. Raises ValueError for a list that is none."""
    asks: Callable[[str, Mapping[str, Any]], str] | None = None
    """The question of a row, and what else has to be said of it."""
    shown: Callable[[str], str] = str
    """A gold answer as tables have it."""
    options: bool = False
    """Whether the answer is the letter of one of an item's options."""


ANSWER_TYPES: ExtensionPoint[AnswerType] = ExtensionPoint(
    "scaling_orchestrator.graders",
    AnswerType,
    {
        name.lower(): f"jobs.evaluate.grading.answer_types:{name}"
        for name in ("INTEGER", "MATH", "CHOICE", "TEXT", "JUDGED", "GRID", "CODE")
    },
)
"""By the names that tasks have for them."""

AnswerTypeName = Annotated[str, known(ANSWER_TYPES)]
"""As a field of a config."""
