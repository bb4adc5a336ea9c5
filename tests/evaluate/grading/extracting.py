"""Extraction by the name of a type of answers, as tests write it."""

from __future__ import annotations

from jobs.evaluate.grading.answer_type import ANSWER_TYPES
from jobs.evaluate.grading.extraction import Extracted
from jobs.evaluate.grading.reader import Text


def extract(answer: str, answers: str = "integer", letters: str = "", fallback: bool = True) -> Extracted:
    return ANSWER_TYPES[answers].extract(Text(answers, letters, fallback, "", answer))
