"""The types of answers that are built in: integers, mathematics, choices, texts, grids, code, what a judge compares."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from typing import Any

from jobs.evaluate.grading import grids, programs, tests_of_code
from jobs.evaluate.grading.answer_type import AnswerType
from jobs.evaluate.grading.extraction import (
    LETTER_FORM,
    MATH_FORM,
    NUMBER_FORM,
    TEXT_FORM,
    WHOLE_FORM,
    Extracted,
    Form,
    extract,
    last_boxed,
)
from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.mathematics import decided
from jobs.evaluate.grading.reader import Text
from jobs.evaluate.grading.told import told
from jobs.evaluate.grading.values import LONGEST
from jobs.evaluate.grading.words import words


def _extracted(form: Form, text: Text) -> Extracted:
    return extract(text.answer, form, text.letters, text.fallback)


def _same_integer(gold: str, said: str) -> bool:
    integer = canonical_integer(said)
    return integer is not None and integer == canonical_integer(gold)


@lru_cache(maxsize=1024)
def _gold_integer(gold: str) -> str:
    return extract(gold, NUMBER_FORM, fallback=False).text or gold


def _no_integer(gold: str) -> str | None:
    return "is not an integer" if canonical_integer(_gold_integer(gold)) is None else None


@lru_cache(maxsize=1024)
def _gold_math(gold: str) -> str:
    return last_boxed(gold) or gold


def _all_parts(parts: list[Any]) -> str:
    """An answer of several parts, all of which are asked for."""
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError("is a list with something other than text in it")
    return ", ".join(parts)


def _same_letter(gold: str, said: str) -> bool:
    return said == gold


def _same_words(gold: str, said: str) -> bool:
    return len(said) <= 10 * LONGEST and bool({words(said), words(told(said))} & {words(gold), words(told(gold))})


def _same_words_if_at_all(gold: str, said: str) -> bool | None:
    return _same_words(gold, said) or None


INTEGER = AnswerType(partial(_extracted, NUMBER_FORM), _same_integer, gold=_gold_integer, problem=_no_integer)
MATH = AnswerType(partial(_extracted, MATH_FORM), decided, gold=_gold_math, undecided="mathematics", listed=_all_parts)
CHOICE = AnswerType(partial(_extracted, LETTER_FORM), _same_letter, options=True)
TEXT = AnswerType(partial(_extracted, TEXT_FORM), _same_words)
JUDGED = AnswerType(partial(_extracted, WHOLE_FORM), _same_words_if_at_all, undecided="judge")
GRID = AnswerType(grids.extract, grids.same, problem=grids.problem, meaning=str, listed=json.dumps)
CODE = AnswerType(
    programs.extract,
    programs.same,
    undecided="sandbox",
    row=tests_of_code.gold,
    asks=programs.asks,
    shown=tests_of_code.described,
    meaning=str,
)
