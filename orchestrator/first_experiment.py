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
TEMPLATES = {
    "auto": "how the model marks its thinking; look says what was found",
    "plain-think": "it marks none of its own, so it thinks inside <think>, written as text",
}
"""Styles of thinking: what is said of them."""
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
    template: {template}
    budgets: {budgets}
"""


def text(
    name: str,
    model: str,
    questions: str,
    columns: str,
    budgets: str,
    strings: str,
    template: str,
    schema: str,
    gpus: bool,
) -> str:
    """The file; `columns`: what those of the questions are called, ``question=problem,answer=solution``; `gpus`: this
    machine has some. Raises ValueError, in a line, where the questions cannot be read.
    """
    task: Any = questions
    if Path(questions).suffix or "/" in questions:
        if problem := file_problem(Path(questions)):
            raise ValueError(f"--questions: {questions}: {problem}")
        called = _columns(columns)
        rows = _rows(Path(questions))
        if rows and "id" not in called and "id" not in rows[0]:
            called["id"] = None
        task = {"path": questions, "type": _type([row.get(called.get("answer") or "answer") for row in rows])}
        if called:
            task["columns"] = called
    elif columns:
        raise ValueError(f"--columns: {columns}: are of a file's questions, and {questions} is none")
    written = _TEXT.format(
        comment=COMMENT,
        schema=schema,
        name=_inline(name),
        model=_inline(model),
        task=_inline(task),
        template=f"{template}  # {TEMPLATES[template]}",
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


def _columns(given: str) -> dict[str, str | None]:
    called: dict[str, str | None] = {}
    for each in _listed(given):
        name, equals, column = (word.strip() for word in each.partition("="))
        if not name or not equals or not column:
            raise ValueError(f"--columns: {each!r} is not NAME=COLUMN, such as question=problem")
        called[name] = column
    return called


def _rows(file: Path) -> list[dict[str, Any]]:
    """The first ones."""
    if file.suffix == ".csv":
        import csv

        with file.open(newline="", encoding="utf-8") as rows:
            return [row for _, row in zip(range(LOOKED_AT), csv.DictReader(rows), strict=False)]
    read = [json.loads(line) for line in file.read_text().splitlines()[:LOOKED_AT] if line.strip()]
    return [row for row in read if isinstance(row, dict)]


def _type(answers: list[Any]) -> str:
    """Of the first answers: ``integer``, ``choice``, else ``text``."""
    said = [str(answer).strip() for answer in answers if answer is not None]
    for name, form in (("integer", _WHOLE), ("choice", _LETTER)):
        if said and all(form.fullmatch(each) for each in said):
            return name
    return "text"
