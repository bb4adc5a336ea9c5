"""Extraction and verdicts: which rule fires, what it finds, and what that is worth."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.grading import canonical_integer, extract, grade, last_boxed, meaning
from jobs.evaluate.ledger import Ledger
from jobs.evaluate.tasks import Item, Task

TASK = Task("numbers", (Item("i", "?", "16"),))


def ledger(answer: str, item: str = "i") -> Ledger:
    return Ledger(item, 0, "auto", 10, 0, 5, "natural", "stop", 0, 0, False, None, 1, answer)


@pytest.mark.parametrize(
    ("answer", "extracted", "rule"),
    [
        (r"so \boxed{16}.", "16", "boxed"),
        (r"\boxed{3} and then \boxed{16}", "16", "boxed"),
        (r"Answer: 3, no: \boxed{16}", "16", "boxed"),
        (r"\boxed{\text{it is {16}}}", r"\text{it is {16}}", "boxed"),
        (r"\fbox{16}", "16", "boxed"),
        (r"\boxed {16}", "16", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{16} \boxed{ }", "16", "boxed"),
        (r"\boxed{16", "16", "last_number"),
        (r"\boxed{16} then \boxed{17", "16", "boxed"),
        ("\nFinal Answer: 16", "16", "answer"),
        ("Answer: 3\nAnswer: 16\n", "16", "answer"),
        ("Answer:\n\n  16 letters\nbye 7", "16 letters", "answer"),
        ("There are 3, or 16", "16", "last_number"),
        ("12 and then Answer:", "12", "last_number"),
        ("1,000", "1,000", "last_number"),
        ("range 3-4", "4", "last_number"),
        ("it is -4", "-4", "last_number"),
        ("Final Answer:", None, "none"),
        ("none that I can see", None, "none"),
        ("", None, "none"),
    ],
)
def test_the_first_rule_that_finds_anything_wins(answer: str, extracted: str | None, rule: str) -> None:
    assert extract(answer) == (extracted, rule)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Answer: 16", "correct"),
        ("Answer: 016", "correct"),
        ("Answer: 16.0", "correct"),
        ("Answer: $16$.", "correct"),
        ("Answer: **16**", "correct"),
        ("Answer: +16", "correct"),
        ("Answer: 16 letters", "correct"),
        ("Answer: there are 16.", "correct"),
        (r"\boxed{16}", "correct"),
        (r"\boxed{016}", "correct"),
        ("16", "correct"),
        ("Answer: 160", "wrong"),
        ("Answer: 1.6", "wrong"),
        ("Answer: 16.5", "wrong"),
        ("Answer: -16", "wrong"),
        ("Answer: 16,000", "wrong"),
        ("Answer: 1 6", "wrong"),
        ("Answer: sixteen", "wrong"),
        (r"\boxed{16 letters}", "wrong"),
        (r"\boxed{x = 16}", "wrong"),
        ("16 or 17", "wrong"),
        ("Final Answer:", "no_answer"),
        ("", "no_answer"),
    ],
)
def test_answers_are_compared_as_exact_integers(answer: str, verdict: str) -> None:
    graded = grade(TASK, ledger(answer))
    assert (graded.verdict, graded.task, graded.gold) == (verdict, "numbers", "16")


@pytest.mark.parametrize(
    ("extracted", "rule", "said"),
    [
        ("016", "boxed", "16"),
        ("16 letters", "answer", "16"),
        ("$16$.", "answer", "16"),
        ("16 letters", "boxed", "16 letters"),
        ("sixteen", "answer", "sixteen"),
        ("about 2.5", "answer", "2.5"),
        ("16.0", "last_number", "16"),
    ],
)
def test_answers_that_mean_the_same_are_one_answer(extracted: str, rule: str, said: str) -> None:
    assert meaning(extracted, rule) == said


def test_an_item_that_is_not_of_the_task_is_an_error() -> None:
    with pytest.raises(KeyError):
        grade(TASK, ledger("16", item="another"))


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        ("007", "7"),
        ("-0", "0"),
        ("−3", "-3"),
        ("1,234,567", "1234567"),
        ("1{,}000", "1000"),
        ("1,23", None),
        ("٣", None),
    ],
)
def test_integers_have_one_form(text: str, integer: str | None) -> None:
    assert canonical_integer(text) == integer


@given(st.integers())
def test_every_integer_is_its_own_canonical_form(value: int) -> None:
    assert canonical_integer(str(value)) == str(value)
    assert canonical_integer(f"{value:,}") == str(value)


@given(st.text(alphabet="{}\\boxed1 ", max_size=60))
def test_a_box_is_balanced_and_was_there(text: str) -> None:
    content = last_boxed(text)
    if content is not None:
        assert content in text
        assert content.strip()


@given(st.text())
def test_no_text_breaks_the_grader(text: str) -> None:
    assert grade(TASK, ledger(text)).verdict in ("correct", "wrong", "no_answer")


@pytest.mark.parametrize(
    "answer",
    [
        "{" * 100_000,
        "\\boxed{" * 15_000,
        "\\boxed{" * 15_000 + "}" * 15_000,
        "9" * 100_000,
        "1," * 50_000,
        "Answer:" * 15_000,
    ],
    ids=["braces", "open boxes", "nested boxes", "digits", "commas", "answers"],
)
def test_hostile_answers_take_no_longer_than_others(answer: str) -> None:
    began = time.perf_counter()
    grade(TASK, ledger(answer))
    assert time.perf_counter() - began < 1
