"""All that is done with a model's text, but for symbolic mathematics. Called in the processes of ``workers`` only.

Whatever a pattern takes for ever on, or a text fills the memory with, then costs one verdict and not the sweep.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from jobs.evaluate.grading.answer_type import AnswerType
from jobs.evaluate.grading.extraction import Rule, extract, last_boxed
from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.mathematics import decided
from jobs.evaluate.grading.told import told
from jobs.evaluate.grading.values import LONGEST
from jobs.evaluate.grading.words import plain, words


class Text(NamedTuple):
    """An answer, and what has to be known of its item to read it."""

    type: AnswerType
    letters: str
    fallback: bool
    gold: str
    answer: str


class Read(NamedTuple):
    """What an answer says."""

    extracted: str | None
    rule: Rule
    meaning: str | None
    """:func:`meaning` of what was extracted."""
    same: bool | None
    """Whether it is the gold answer; None where that takes mathematics or a judge."""


def read(text: Text) -> Read:
    """Finds the answer in a text and compares it as far as that is plain."""
    said, rule = extract(text.answer, text.type, text.letters, text.fallback)
    if said is None:
        return Read(None, rule, None, False)
    return Read(said, rule, meaning(said), _same(text.type, gold_of(text.type, text.gold), said))


@lru_cache(maxsize=1024)
def gold_of(answers: AnswerType, gold: str) -> str:
    """What a gold answer says, of which there may be more than that: worked steps and a box, or ``#### 18``."""
    if answers not in ("integer", "math"):
        return gold
    if answers == "math":
        return last_boxed(gold) or gold
    return extract(gold, "integer", fallback=False).text or gold


def _same(answers: AnswerType, gold: str, said: str) -> bool | None:
    if answers == "math":
        return decided(gold, said)
    if answers == "integer":
        integer = canonical_integer(said)
        return integer is not None and integer == canonical_integer(gold)
    if answers == "choice":
        return said == gold
    if len(said) <= 10 * LONGEST and {words(said), words(told(said))} & {words(gold), words(told(gold))}:
        return True
    return False if answers == "text" else None


def meaning(extracted: str) -> str:
    """What an extracted answer comes to, written one way. Answers of one meaning are one: what samples vote for."""
    if len(extracted) > LONGEST:
        return extracted
    return canonical_integer(extracted) or plain(extracted) or extracted
