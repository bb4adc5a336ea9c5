"""IFEval's prompts: an answer is right if it follows every instruction that its row lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ifeval_rules.rules import RULES, Words, why_not
from jobs.evaluate.grading.answer_type import AnswerType
from jobs.evaluate.grading.extraction import Extracted
from jobs.evaluate.grading.reader import Text


def _extract(text: Text) -> Extracted:
    """All of an answer is what instructions are about."""
    said = text.answer.removeprefix("Final Answer:").strip()
    return Extracted(said, "whole") if said else Extracted(None, "none")


def _row(row: Mapping[str, Any]) -> str:
    """The instructions of a row of ``google/IFEval``."""
    names, given = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given) or not names:
        raise ValueError("needs instruction_id_list and kwargs, lists of one length")
    listed = []
    for name, arguments in zip(names, given, strict=True):
        if name not in RULES:
            raise ValueError(f"has the unknown instruction {name!r}")
        kept: Words = {key: value for key, value in (arguments or {}).items() if value is not None}
        if problem := why_not(name, kept):
            raise ValueError(f"has {name} {problem}")
        listed.append([name, kept])
    return json.dumps(listed)


def _follows(gold: str, said: str) -> bool:
    return all(RULES[name].follows(said, arguments) for name, arguments in json.loads(gold))


def _names(gold: str) -> str:
    return ", ".join(name for name, _ in json.loads(gold))


INSTRUCTIONS = AnswerType(_extract, _follows, row=_row, shown=_names, meaning=str)
