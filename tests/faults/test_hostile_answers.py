"""A thousand answers that were made to hang a grader, to exhaust its memory, to deceive it or to end it.

``benchmarks/grading.py`` has most of them; the others go for what reads text, for each type of answer. None is right,
none takes longer than its limit, and whoever asks for verdicts is there all the while.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import psutil
import pytest

from benchmarks.grading import hostile, ledger
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.grading.workers import SECONDS, Workers
from jobs.evaluate.sweep.ledger import Graded
from jobs.evaluate.tasks import Item, Task

MATHEMATICS, TEXTS = 500, 500
GOLD: dict[str, str] = {
    "integer": "7919",
    "math": "\\frac{1}{2}",
    "choice": "Q",
    "text": "the seventh moon",
    "judged": "the seventh moon",
}
PIECES = (
    *(
        "Answer:",
        "final answer is ",
        "**Final Answer**\n",
        "#### ",
        "\\boxed{",
        "\\fbox {",
        "}",
        "{",
        "\\text{",
        "$",
        "$$",
    ),
    *("\\[", "\\]", "\\(", "(", ")", "[", "]", "the ", "correct ", "option ", "is ", "A", "B ", "not ", "or ", "and "),
    *(
        "=",
        ":",
        "-",
        "\u2013",
        "~",
        "9",
        "1,",
        "0.",
        "/",
        "^",
        "!",
        "\\frac",
        "\\sqrt",
        "\\begin{pmatrix}",
        "\\\\",
        "&",
    ),
    *("percent ", "cm ", "\x00", "\u202e", "\ud7ff", "\ufdfd", "\x1b[2J", "\t", "\r\n", " ", "\n", "**", "`", "_", "*"),
)


def texts(count: int) -> Iterator[tuple[str, str]]:
    """Pieces of what is looked for, over and over, or mixed, up to a megabyte."""
    draw = random.Random(0)
    for number in range(count):
        length = draw.choice((100, 1_000, 16_000, 200_000))
        if number % 2:
            unit = "".join(draw.choices(PIECES, k=draw.randint(1, 3)))
            yield "repeated", unit * (length // len(unit)) + draw.choice(PIECES)
        else:
            yield "mixed", "".join(draw.choices(PIECES, k=length // 4))


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=Workers(processes=2)) as grader:
        yield grader


def survived(grader: Grader, answers: Sequence[tuple[str, str]]) -> list[Graded]:
    tasks = {kind: Task(kind, (Item("i", "?", gold, letters="ABCQ"),), kind) for kind, gold in GOLD.items()}
    return grader.grade([(tasks[kind], ledger("i", text)) for kind, text in answers])


def test_no_hostile_answer_is_correct_hangs_or_ends_anything(grader: Grader) -> None:
    """One after the other, by CPU time: that of other processes on the machine is none of an answer's."""
    kinds: list[str] = ["integer", "math", "choice", "text", "judged"]
    answers: list[tuple[str, str]] = [("math", text) for _, text in hostile(MATHEMATICS)]
    answers += [(kinds[number % len(kinds)], text) for number, (_, text) in enumerate(texts(TEXTS))]
    assert len(answers) == 1000
    slowest, verdicts = 0.0, Counter[str]()
    for answer in answers:
        before = spent()
        (graded,) = survived(grader, [answer])
        slowest = max(slowest, spent() - before)
        verdicts[graded.verdict] += 1
        assert graded.verdict not in ("correct", "error"), (graded.verdict, answer[1][:200])
    print(f"{dict(verdicts)}, the slowest {slowest:.1f} s of CPU time")
    assert slowest < SECONDS + 2, "with what starting a process anew takes"


def test_whoever_asks_is_there_all_the_while(grader: Grader) -> None:
    """A clock in this process ticks on while texts that take long are read in others."""
    ticks, done = [time.monotonic()], threading.Event()

    def tick() -> None:
        while not done.wait(0.05):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        survived(grader, [("choice", " " * 16_000 * number + "x") for number in range(1, 40)])
        survived(grader, [("integer", "Answer: " * 20_000 + str(number)) for number in range(40)])
    finally:
        done.set()
        thread.join()
    assert max(later - sooner for sooner, later in pairwise(ticks)) < 2


def spent() -> float:
    """CPU seconds of the processes that read, and of this one."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)
