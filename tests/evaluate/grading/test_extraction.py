"""Extraction: which rule fires, what it finds, and that no text takes long or breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.grading.extraction import last_boxed
from jobs.evaluate.grading.integers import canonical_integer
from tests.evaluate.grading.extracting import extract


@pytest.mark.parametrize(
    ("answer", "extracted", "rule"),
    [
        (r"so \boxed{16}.", "16", "boxed"),
        (r"\boxed{3} and then \boxed{16}", "16", "boxed"),
        (r"Answer: 3, no: \boxed{16}", "16", "boxed"),
        (r"\boxed{\text{it is {16}}}", r"\text{it is {16}}", "boxed"),
        (r"\framebox{16}", "16", "boxed"),
        (r"\fbox{16}", "16", "boxed"),
        (r"\boxed {16}", "16", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{16} \boxed{ }", "16", "boxed"),
        (r"\boxed{16", "16", "last_number"),
        (r"\boxed{16} then \boxed{17", "16", "boxed"),
        ("\nFinal Answer: 16", "16", "answer"),
        ("Answer: 3\nAnswer: 16\n", "16", "answer"),
        ("Answer:\n\n  16 letters\nbye 7", "16", "answer"),
        ("There are 3, or 16", "There are 3, or 16", "last_number"),
        ("16 or more", "16 or more", "last_number"),
        ("12 and then Answer:", "12", "last_number"),
        ("1,000", "1,000", "last_number"),
        ("range 3-4", "range 3-4", "last_number"),
        ("it is -4", "-4", "last_number"),
        ("Final Answer:", None, "none"),
        ("none that I can see", None, "none"),
        ("", None, "none"),
    ],
)
def test_the_first_rule_that_finds_anything_wins(answer: str, extracted: str | None, rule: str) -> None:
    assert extract(answer) == (extracted, rule)


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        ("007", "7"),
        ("-0", "0"),
        ("−3", "-3"),
        ("1,234,567", "1234567"),
        ("1{,}000", "1000"),
        (r"\mathbf{127} ", "127"),
        (r"\textbf{(211) }", "211"),
        (r"\text{211 or so}", None),
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


@pytest.mark.parametrize(
    ("answers", "answer", "extracted", "rule"),
    [
        ("math", r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}", "boxed"),
        ("math", r"\fbox{ \sqrt{\frac{1}{2}} }", r"\sqrt{\frac{1}{2}}", "boxed"),
        ("math", "Answer: $x^2 + 3$", "$x^2 + 3$", "answer"),
        ("math", "**Answer:** 5 apples", "5", "answer"),
        ("math", "**Answer:** 5 cents", "5 cents", "answer"),
        ("math", "Answer: 3\nand so\nAnswer:\n$$\n\\frac{1}{2}\n$$\n", r"\frac{1}{2}", "answer"),
        ("math", "Answer:\n\\[ x = 2 \\]", "x = 2", "answer"),
        ("math", "The sum is 12.", "12", "last_number"),
        ("choice", r"\boxed{B}", "B", "boxed"),
        ("choice", r"\boxed{\text{(C)}}", "C", "boxed"),
        ("choice", r"\boxed{\textbf{D) } 42\text{ cm}}", "D", "boxed"),
        ("choice", r"\boxed{42}", "42", "boxed"),
        ("choice", r"\boxed{E}", "E", "boxed"),
        ("choice", "Answer: (b)", "B", "answer"),
        ("choice", "Answer: B. the second", "B", "answer"),
        ("choice", "**Answer:** Option C", "C", "answer"),
        ("choice", "Answer: A\nNo wait. Answer: D", "D", "answer"),
        ("choice", "Answer: A good question", "A good question", "answer"),
        ("choice", "So B is wrong, and it is C.", "C", "last_letter"),
        ("choice", "I say (D), A fine one", "D", "last_letter"),
        ("choice", "A guess would be wrong", None, "none"),
        ("choice", "E or F", None, "none"),
        ("text", "Answer: The Moon.", "The Moon.", "answer"),
        ("text", "It is far.\n\nThe Moon\n", "The Moon", "last_line"),
        ("judged", "\nFinal Answer: because it is cold", "because it is cold", "answer"),
        ("judged", "Final Answer:", None, "none"),
    ],
)
def test_what_is_looked_for_depends_on_the_answers_of_the_task(
    answers: str, answer: str, extracted: str | None, rule: str
) -> None:
    assert extract(answer, answers, "ABCD") == (extracted, rule)


@pytest.mark.parametrize("answers", ["integer", "math", "choice", "text", "judged"])
def test_a_task_may_insist_on_a_box_or_a_line_that_says_answer(answers: str) -> None:
    assert extract("it is 16, or B", answers, "ABCD", fallback=False) == (None, "none")
    assert extract("Answer: 2 or B", answers, "ABCD", fallback=False).rule == "answer"
    assert extract("it is 16, or B", answers, "ABCD").rule != "none"


ANSWER_TYPES = st.sampled_from(["integer", "math", "choice", "text", "judged"])


@given(ANSWER_TYPES, st.text(alphabet="Answer: \\boxed{}()ABCD12.$[]\n\r\x00\u202e", max_size=80))
def test_what_was_found_is_not_blank_and_always_the_same(answers: str, text: str) -> None:
    found = extract(text, answers, "ABCD")
    assert (found.text is None) == (found.rule == "none")
    assert found.text is None or found.text.strip()
    assert extract(text, answers, "ABCD") == found


@pytest.mark.seconds
@pytest.mark.parametrize("answers", ["integer", "math", "choice", "text"])
@pytest.mark.parametrize(
    "answer",
    [
        "{" * 1_000_000,
        "\\boxed{" * 150_000,
        "\\boxed{" * 150_000 + "}" * 150_000,
        "\\text{" * 150_000 + "}" * 150_000,
        "9" * 1_000_000,
        "1," * 500_000,
        "Answer:" * 150_000,
        "Answer: $$" * 100_000,
        "A " * 500_000,
    ],
    ids=["braces", "open boxes", "nested boxes", "nested text", "digits", "commas", "answers", "displays", "letters"],
)
def test_a_megabyte_takes_no_more_than_one_pass(answers: str, answer: str) -> None:
    extract(answer, answers, "ABCD")
    extract(f"\\boxed{{{answer}}}", answers, "ABCD")
