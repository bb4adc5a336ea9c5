"""The text of a first experiment. Pure, but for a look at the user's questions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from orchestrator.job.local_files import file_problem
from orchestrator.schema import COMMENT

_WHOLE = re.compile(r"-?[0-9][0-9,]*")
_LETTER = re.compile(r"[A-J]")
LOOKED_AT = 100
"""Rows of the questions, to tell what their answers are."""

_TEXT = """#!/usr/bin/env -S python -m orchestrator run
{comment}{schema}
# How accuracy grows with thinking tokens, and what appending does to it.
name: {name}
steps:
  sweep:
    job: evaluate
    model: {model}
    tasks: [{task}]
    template: auto  # how the model marks its thinking; look says what was found
    budgets: {budgets}
"""


def text(name: str, model: str, questions: str, budgets: str, strings: str, schema: str, gpus: bool) -> str:
    """The file; `gpus`: this machine has some. Raises ValueError, in a line, where the questions cannot be read."""
    task: Any = questions
    if Path(questions).suffix or "/" in questions:
        if problem := file_problem(Path(questions)):
            raise ValueError(f"--questions: {questions}: {problem}")
        task = {"path": questions, "type": _type(Path(questions))}
    written = _TEXT.format(
        comment=COMMENT,
        schema=schema,
        name=_inline(name),
        model=_inline(model),
        task=_inline(task),
        budgets=_inline([int(each) if each.isdecimal() else each for each in _listed(budgets)]),
    )
    appended = [] if strings.strip() == "-" else _listed(strings)
    if appended:
        written += f"    extensions: {_inline({'strings': appended, 'counts': [1, 2]})}\n"
    return written + "    resources: {gpus: 1}\n" * gpus


def _listed(given: str) -> list[str]:
    return [each.strip() for each in given.split(",") if each.strip()]


def _inline(value: Any) -> str:
    """A value on one line, as YAML reads it."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _type(file: Path) -> str:
    """Of answers, from those of the first rows: ``integer``, ``choice``, else ``text``."""
    if file.suffix == ".csv":
        import csv

        with file.open(newline="", encoding="utf-8") as rows:
            answers = [row.get("answer") for _, row in zip(range(LOOKED_AT), csv.DictReader(rows), strict=False)]
    else:
        read = [json.loads(line) for line in file.read_text().splitlines()[:LOOKED_AT] if line.strip()]
        answers = [row.get("answer") if isinstance(row, dict) else None for row in read]
    said = [str(answer).strip() for answer in answers if answer is not None]
    for name, form in (("integer", _WHOLE), ("choice", _LETTER)):
        if said and all(form.fullmatch(each) for each in said):
            return name
    return "text"
