"""Grids: found in answers however they are written, and compared cell by cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluate.grading.answer_type import ANSWER_TYPES
from jobs.evaluate.tasks import load
from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.job.errors import StepError
from tests.evaluate.grading.extracting import extract

GOLD = "[[0, 1], [2, 3]]"


def same(answer: str, fallback: bool = True) -> bool | None:
    said = extract(answer, "grid", fallback=fallback).text
    return None if said is None else ANSWER_TYPES["grid"].same(GOLD, said)


@pytest.mark.parametrize(
    "answer",
    [
        "[[0, 1], [2, 3]]",
        "[[0,1],[2,3]]",
        "[[0 1]\n [2 3]]",
        "The first was [[9, 9]]. The output is:\n```json\n[\n  [0, 1],\n  [2, 3]\n]\n```",
        "Answer:\n0 1\n2 3",
        "First 5 5 is it.\n\n0 1\n2 3\n",
        "```\n0, 1\n2, 3\n```\nThat is all.",
        "| 0 | 1 |\n| 2 | 3 |",
        r"\boxed{[[0,1],[2,3]]}, not [[4,4],[4,4]]",
        r"\boxed{\begin{pmatrix}0 & 1 \\ 2 & 3\end{pmatrix}}",
        "[[4, 4]] it is not.\nAnswer: [[0, 1], [2, 3]]",
    ],
)
def test_a_grid_is_the_same_however_it_is_written(answer: str) -> None:
    assert same(answer) is True


@pytest.mark.parametrize(
    "answer",
    [
        "[[0, 1, 2, 3]]",
        "[[0, 1], [2, 4]]",
        "[[0, 2], [1, 3]]",
        "[[0, 1], [2, 3], [0, 0]]",
        "0 1 2 3",
        "[[00, 1], [2, -3]]",
    ],
)
def test_another_grid_is_another_answer(answer: str) -> None:
    assert same(answer) is False


@pytest.mark.parametrize("answer", ["", "no grid", "[[0, 1], [2]]", "[[]]", "[[a, b]]"])
def test_what_is_no_grid_is_no_answer(answer: str) -> None:
    assert same(answer) is None


def test_without_fallback_a_grid_must_be_announced_or_in_a_box() -> None:
    assert same(GOLD, fallback=False) is None
    assert same(f"Answer: {GOLD}", fallback=False) is True
    assert same(rf"\boxed{{{GOLD}}}", fallback=False) is True


def test_what_a_long_answer_takes_is_little() -> None:
    for hostile in ("[" * 100_000, "[[" + "1," * 100_000, "1 " * 100_000, "[[1]," * 30_000):
        extract(hostile, "grid")


def test_gold_answers_must_be_grids(tmp_path: Path) -> None:
    file = tmp_path / "arc.jsonl"
    task = TaskConfig.model_validate_json(json.dumps({"name": "arc", "path": str(file), "type": "grid"}))
    file.write_text(json.dumps({"id": "a", "question": "?", "answer": GOLD}) + "\n")
    assert load(task, {}).items[0].answer == GOLD
    file.write_text(json.dumps({"id": "a", "question": "?", "answer": [[0, 1], [2, 3]]}) + "\n")
    assert load(task, {}).items[0].answer == GOLD
    file.write_text(json.dumps({"id": "a", "question": "?", "answer": "[[0], [1, 2]]"}) + "\n")
    with pytest.raises(StepError, match=r"arc.jsonl:1: answer .* is not a grid: rows of whole numbers, of one length"):
        load(task, {})
