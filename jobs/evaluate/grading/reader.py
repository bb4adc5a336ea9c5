"""All that is done with a model's text, but for symbolic mathematics. Called in the processes of ``workers`` only.

Whatever a pattern takes for ever on, or a text fills the memory with, then costs one verdict and not the sweep.
"""

from __future__ import annotations

from typing import NamedTuple

from jobs.evaluate.grading.answer_type import ANSWER_TYPES
from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.values import LONGEST
from jobs.evaluate.grading.words import plain


class Text(NamedTuple):
    """An answer, and what has to be known of its item to read it."""

    type: str
    letters: str
    fallback: bool
    gold: str
    answer: str


class Read(NamedTuple):
    """What an answer says."""

    extracted: str | None
    rule: str
    meaning: str | None
    """What was extracted, written one way: what samples vote for."""
    same: bool | None
    """Whether it is the gold answer; None where reading does not tell."""


def read(text: Text) -> Read:
    """Finds the answer in a text and compares it as far as that is plain."""
    kind = ANSWER_TYPES[text.type]
    said, rule = kind.extract(text)
    if said is None:
        return Read(None, rule, None, False)
    return Read(said, rule, (kind.meaning or meaning)(said), kind.same(kind.gold(text.gold), said))


def meaning(extracted: str) -> str:
    """What an extracted answer comes to, written one way. Answers of one meaning are one: what samples vote for."""
    if len(extracted) > LONGEST:
        return extracted
    return canonical_integer(extracted) or plain(extracted) or extracted
