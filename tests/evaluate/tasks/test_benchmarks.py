"""The published benchmarks: rows of the shape that each is published in become items."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jobs.evaluate.tasks.benchmarks import BENCHMARKS
from jobs.evaluate.tasks.config import TaskConfig
from jobs.evaluate.tasks.items import each_item
from jobs.evaluate.tasks.task import Item

PUBLISHED: dict[str, dict[str, Any]] = {
    "aime26": {"problem_idx": 1, "problem": "1 + 1?", "answer": 2},
    "hmmt_feb25": {"problem_idx": 1, "problem": "Half?", "answer": r"\frac{1}{2}", "problem_type": ["Algebra"]},
    "hmmt_feb26": {"problem_idx": 1, "problem": "Half?", "answer": r"\frac{1}{2}", "problem_type": ["Algebra"]},
    "brumo25": {"problem_idx": 1, "problem": "Half?", "answer": r"\frac{1}{2}", "problem_type": ["Algebra"]},
    "gsm8k": {"question": "1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
    "mmlu_pro": {
        "question_id": 70,
        "question": "Which?",
        "options": ["red", "green", "blue", "grey", "pink", "black", "white", "brown", "gold", "green"],
        "answer": "I",
        "answer_index": 8,
        "cot_content": "",
        "category": "art",
        "src": "made up",
    },
    "supergpqa": {
        "uuid": "4f",
        "question": "Which?",
        "options": ["red", "green", "gold"],
        "answer": "gold",
        "answer_letter": "C",
        "discipline": "Art",
        "field": "Art",
        "subfield": "Art",
        "difficulty": "easy",
        "is_calculation": False,
    },
    "olympiadbench": {
        "id": 1606,
        "question": "Which x?",
        "solution": ["Look."],
        "final_answer": ["$1,-2$"],
        "context": None,
        "image_1": None,
        "modality": "Text-only",
        "is_multiple_answer": True,
        "unit": None,
        "answer_type": "Numerical",
        "error": None,
    },
    "omni_math": {
        "domain": ["Mathematics -> Algebra"],
        "difficulty": 8.0,
        "problem": "Which functions?",
        "solution": "Look.",
        "answer": "f(x) = 2x",
        "source": "made up",
    },
    "hle": {
        "id": "66e8",
        "question": "Who?",
        "image": "",
        "answer": "Ada",
        "answer_type": "exactMatch",
        "rationale": "Look.",
        "raw_subject": "History",
        "category": "Other",
    },
}
"""A row of each, written for this test, with the columns that it has on the hub."""


def items(name: str, *rows: dict[str, Any]) -> list[Item]:
    return list(each_item(((f"{name}:{at}", row) for at, row in enumerate(rows, 1)), TaskConfig(name=name)))


@pytest.mark.parametrize(
    ("name", "identity", "answer"),
    [
        ("aime26", "1", "2"),
        ("hmmt_feb25", "1", r"\frac{1}{2}"),
        ("hmmt_feb26", "1", r"\frac{1}{2}"),
        ("brumo25", "1", r"\frac{1}{2}"),
        ("gsm8k", "1", "1 + 1 = <<1+1=2>>2\n#### 2"),
        ("olympiadbench", "1606", "$1,-2$"),
        ("omni_math", "1", "f(x) = 2x"),
        ("hle", "66e8", "Ada"),
    ],
)
def test_a_row_as_published_is_an_item(name: str, identity: str, answer: str) -> None:
    [item] = items(name, PUBLISHED[name])
    assert (item.id, item.answer) == (identity, answer)
    assert item.question == PUBLISHED[name].get("problem", PUBLISHED[name].get("question"))


@pytest.mark.parametrize(("name", "options"), [("mmlu_pro", 9), ("supergpqa", 3)])
def test_options_as_published_are_shown_once_each_with_the_right_one_among_them(name: str, options: int) -> None:
    [item] = items(name, PUBLISHED[name])
    shown = re.findall(r"^([A-Z])\) (.*)$", item.question, re.MULTILINE)
    assert len(shown) == options == len(item.letters)
    assert len({text for _, text in shown}) == options
    assert (item.answer, "gold") in shown


def test_questions_with_a_picture_are_left_out() -> None:
    row = PUBLISHED["hle"]
    pictured = {**row, "id": "66e9", "image": "data:image/png;base64,AAAA"}
    assert [item.id for item in items("hle", pictured, row)] == ["66e8"]


def test_parts_of_an_answer_are_all_asked_for() -> None:
    [item] = items("olympiadbench", {**PUBLISHED["olympiadbench"], "final_answer": ["$3$", "$4$"]})
    assert item.answer == "$3$, $4$"


def test_each_is_pinned_to_a_commit_and_knows_what_is_asked() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert re.fullmatch("[0-9a-f]{40}", benchmark.revision), name
        assert TaskConfig(name=name).known_items() == benchmark.items
    assert {name: BENCHMARKS[name].type for name in ("omni_math", "hle")} == {"omni_math": "judged", "hle": "judged"}
