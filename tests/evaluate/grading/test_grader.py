"""Verdicts: integers, letters, words and mathematics, on pairs written by hand and on the benchmarks' own answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.grading.reader import meaning
from jobs.evaluate.grading.workers import Outcome, Workers
from jobs.evaluate.sweep.ledger import Ledger, Verdict
from jobs.evaluate.tasks import Item, Task, load
from jobs.evaluate.tasks.config import TaskConfig
from tests.conftest import ROOT
from tests.evaluate.grading.answer_pairs import DIFFERENT, SAME
from tests.evaluate.grading.answer_phrases import CLASSES, Phrases
from tests.evaluate.grading.extracting import extract

DATA = Path("../shared/data")

NUMBERS = Task("numbers", (Item("i", "?", "16"),))


def ledger(answer: str, item: str = "i") -> Ledger:
    return Ledger(item, 0, "auto", 10, 0, 5, "natural", "stop", 0, 0, False, None, 1, answer)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


def benchmark(name: str, file: str) -> Task:
    return load(TaskConfig.model_validate_json(json.dumps({"name": name, "path": str(DATA / file)})), {})


def verdicts(task: Task, answers: list[str], workers: Workers) -> list[Verdict]:
    """Of one answer to each item of `task`."""
    rows = [(task, ledger(answer, item.id)) for item, answer in zip(task.items, answers, strict=True)]
    return [graded.verdict for graded in Grader(workers=workers).grade(rows)]


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
        (r"\boxed{16 letters}", "correct"),
        (r"\boxed{x = 16}", "correct"),
        ("16 or 17", "wrong"),
        ("Final Answer:", "no_answer"),
        ("", "no_answer"),
    ],
)
def test_answers_are_compared_as_exact_integers(answer: str, verdict: str, workers: Workers) -> None:
    (graded,) = Grader(workers=workers).grade([(NUMBERS, ledger(answer))])
    assert (graded.verdict, graded.task, graded.gold) == (verdict, "numbers", "16")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (r"\boxed{B}", "correct"),
        ("Answer: (b) because of the first law", "correct"),
        ("so it must be B.", "correct"),
        (r"\boxed{C}", "wrong"),
        (r"\boxed{42}", "wrong"),
        (r"B, or rather \boxed{A}", "wrong"),
        ("hard to say", "no_answer"),
        ("", "no_answer"),
    ],
)
def test_choices_are_compared_by_their_letter(answer: str, verdict: Verdict, workers: Workers) -> None:
    task = Task("choices", (Item("i", "?", "B", letters="ABCD"),), "choice")
    (graded,) = Grader(workers=workers).grade([(task, ledger(answer))])
    assert graded.verdict == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (r"\boxed{\text{the moon}}", "correct"),
        ("Answer: Moon!", "correct"),
        ("I think\nThe Moon", "correct"),
        ("Answer: the moon of Mars", "wrong"),
        ("Answer: Mars", "wrong"),
        (" \n ", "no_answer"),
    ],
)
def test_texts_are_compared_by_their_words(answer: str, verdict: Verdict, workers: Workers) -> None:
    task = Task("texts", (Item("i", "?", "The Moon"),), "text")
    (graded,) = Grader(workers=workers).grade([(task, ledger(answer))])
    assert graded.verdict == verdict


def test_an_item_that_is_not_of_the_task_is_an_error() -> None:
    with pytest.raises(KeyError):
        Grader().grade([(NUMBERS, ledger("16", item="another"))])


def test_there_are_enough_pairs_and_a_third_of_them_differ() -> None:
    same, different = (sum(map(len, kinds.values())) for kinds in (SAME, DIFFERENT))
    assert same + different >= 200
    assert different >= (same + different) / 3
    assert set(SAME) == set(DIFFERENT)


@pytest.mark.seconds
@pytest.mark.parametrize("kind", SAME)
def test_the_conventions_hold_for(kind: str, workers: Workers) -> None:
    same, different = workers.compare(SAME[kind]), workers.compare(DIFFERENT[kind])
    assert [pair for pair, outcome in zip(SAME[kind], same, strict=True) if outcome is not True] == []
    assert [pair for pair, outcome in zip(DIFFERENT[kind], different, strict=True) if outcome is not False] == []


@pytest.mark.seconds
@pytest.mark.parametrize("kind", CLASSES)
def test_what_models_write_is_read_by_its_class(kind: str, workers: Workers) -> None:
    """Right answers are accepted and wrong ones refused, through everything that grades; none is an error."""
    assert misread(CLASSES[kind], workers) == []


@pytest.mark.seconds
def test_what_was_written_before_its_rules_is_read_too(workers: Workers) -> None:
    """Phrases of all classes, most of them written before the rules they led to. What is still misread is not there."""
    lines = (ROOT / "tests/evaluate/grading/unseen_phrases.jsonl").read_text().splitlines()
    written = [Phrases(**json.loads(line)) for line in lines]
    assert sum(len(each.right) + len(each.wrong) for each in written) > 1200
    assert misread(written, workers) == []


def misread(written: Sequence[Phrases], workers: Workers) -> list[tuple[str, str, str | None, Verdict]]:
    """What is not graded as it should be: a wrong answer is `wrong`, says nothing, or is left to a judge."""
    rows = []
    for phrases in written:
        task = Task("phrases", (Item("i", "?", phrases.gold, letters="ABCD"),), phrases.type)
        wanted = [*((answer, "correct") for answer in phrases.right), *((answer, None) for answer in phrases.wrong)]
        rows += [(task, ledger(answer), verdict) for answer, verdict in wanted]
    graded = Grader(workers=workers).grade([(task, ledger) for task, ledger, _ in rows])
    return [
        (each.gold, each.ledger.answer, each.extracted, each.verdict)
        for each, (_, _, verdict) in zip(graded, rows, strict=True)
        if each.verdict not in ([verdict] if verdict else ["wrong", "no_answer", "ungraded"])
    ]


def test_each_class_has_a_dozen_phrases_both_ways() -> None:
    for kind, groups in CLASSES.items():
        assert sum(len(each.right) for each in groups) >= 12, kind
        assert sum(len(each.wrong) for each in groups) >= 12, kind


def perturbed(answer: str) -> str:
    """Another answer of the same form: its first digit is one more, or it is another word."""
    digit = re.search(r"\d", answer)
    if digit is not None:
        return f"{answer[: digit.start()]}{(int(digit[0]) + 1) % 10}{answer[digit.end() :]}"
    return r"\text{something else}" if answer.startswith(r"\text") else f"{answer} + 1"


@pytest.mark.seconds
def test_every_reference_solution_of_math500_is_correct_and_none_is_when_its_answer_is_perturbed(
    workers: Workers,
) -> None:
    task = benchmark("math500", "math500.jsonl")
    with (DATA / "math500.jsonl").open() as file:
        solutions = [json.loads(line)["solution"] for line in file]
    assert len(task.items) == len(solutions) == 500
    assert {extract(solution, "math").rule for solution in solutions} == {"boxed"}
    assert verdicts(task, solutions, workers) == ["correct"] * 500
    wrong = [f"so it is \\boxed{{{perturbed(item.answer)}}}." for item in task.items]
    assert verdicts(task, wrong, workers) == ["wrong"] * 500


PHRASINGS = (
    r"\boxed{%s}",
    "Final Answer: $%s$",
    "Final Answer: The final answer is $%s$.",
    "**Final Answer**\n\nThe answer is $%s$.",
    "Therefore, the answer is %s.",
    "Final Answer: %s",
    "answer: $%s$ .",
    r"The final answer is $\boxed{%s}$. I hope it is correct.",
    "Final Answer: Adding up, we get\n\\[\n%s\n\\]",
    "Final Answer: It is $%s$ because the other cases fail.",
    "Final Answer: We have $y = 1$ first, and so the result is $%s$.",
    "\n**Answer:** \\(%s\\)",
    "Final Answer: Let me check it again.\nIt works, so the answer is $%s$.",
)
"""What models write around an answer."""


def gsm8k() -> Task:
    with (DATA / "gsm8k_test.jsonl").open() as file:
        answers = [json.loads(line)["answer"] for line in file]
    return Task("gsm8k", tuple(Item(str(number), "?", answer) for number, answer in enumerate(answers)))


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["math500", "aime24", "aime25", "gsm8k"])
def test_gold_answers_are_right_in_any_phrasing_and_those_of_other_items_are_not(name: str, workers: Workers) -> None:
    """Of GSM8K the gold answers are the worked solutions with their last line, ``#### 18``."""
    task = gsm8k() if name == "gsm8k" else benchmark(name, f"{name}.json{'l' * (name == 'math500')}")
    golds = [item.answer.rpartition("#### ")[2] for item in task.items]
    others = golds[1:] + golds[:1]
    rows, wanted = [], []
    for phrasing in PHRASINGS:
        for item, gold, other in zip(task.items, golds, others, strict=True):
            rows.append((task, ledger(phrasing % gold, item.id)))
            wanted.append("correct")
            if meaning(gold) != meaning(other):
                rows.append((task, ledger(phrasing % other, item.id)))
                wanted.append("wrong")
    graded = Grader(workers=workers).grade(rows)
    pairs = zip(graded, wanted, strict=True)
    assert [(each.gold[-30:], each.ledger.answer, each.verdict) for each, right in pairs if each.verdict != right] == []
    assert sum(each.verdict == "wrong" for each in graded) > 0.9 * len(golds) * len(PHRASINGS)


@pytest.mark.parametrize(("name", "file"), [("aime24", "aime24.json"), ("aime25", "aime25.json")])
def test_every_answer_of_aime_is_correct_however_it_is_padded_and_wrong_when_perturbed(
    name: str, file: str, workers: Workers
) -> None:
    task = benchmark(name, file)
    assert len(task.items) == 30
    for form in ("\\boxed{%s}", "\\boxed{%03d}", "Answer: %03d.", "$%s$"):
        answers = [form % (int(item.answer) if "d" in form else item.answer) for item in task.items]
        assert verdicts(task, answers, workers) == ["correct"] * 30
    assert verdicts(task, [rf"\boxed{{{perturbed(item.answer)}}}" for item in task.items], workers) == ["wrong"] * 30


def test_every_reference_solution_of_aime24_is_correct(workers: Workers) -> None:
    task = benchmark("aime24", "aime24.json")
    with (DATA / "aime24.json").open() as file:
        solutions = [json.loads(line)["reference_solution"] for line in file]
    assert verdicts(task, solutions, workers) == ["correct"] * 30


def test_an_answer_that_another_sample_gave_is_not_compared_again() -> None:
    class Counting(Workers):
        asked: ClassVar[list[tuple[str, str]]] = []

        def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
            self.asked.extend(pairs)
            return [True] * len(pairs)

    task = Task("math", (Item("i", "?", "x+1"), Item("j", "?", "y")), "math")
    answers = [(task, ledger(r"\boxed{1+x}", item)) for item in "ijijj"]
    with Grader(workers=Counting()) as grader:
        assert len(grader.grade(answers)) + len(grader.grade(answers)) == 10
    assert Counting.asked == [("x+1", "1+x"), ("y", "1+x")]


@pytest.mark.parametrize(
    ("extracted", "said"),
    [
        ("016", "16"),
        ("$16$.", "16"),
        ("16 letters", "16"),
        ("sixteen", "sixteen"),
        ("16.0", "16"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"$\frac 12$", r"\frac 12"),
        ("B", "B"),
    ],
)
def test_answers_that_mean_the_same_are_one_answer(extracted: str, said: str) -> None:
    assert meaning(extracted) == meaning(said)
