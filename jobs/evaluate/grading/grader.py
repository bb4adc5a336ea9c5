"""Verdicts on answers: what each says, compared with its gold answer by the rules of the task's type.

Answers are graded many at a time, and each pair of gold answer and answer once: most samples of a sweep say what
another said before. Their texts are read in other processes (``workers``), never here, and programs are run in a
``sandbox``. What symbolic mathematics has no verdict on is an ``error``, and what no judge could be asked about is
``ungraded``; neither is ever counted as wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from jobs.evaluate.grading import programs
from jobs.evaluate.grading.answer_type import ANSWER_TYPES, AnswerType
from jobs.evaluate.grading.judge import JudgeQuestion
from jobs.evaluate.grading.reader import Read, Text
from jobs.evaluate.grading.sandbox import SandboxError
from jobs.evaluate.grading.workers import Workers
from jobs.evaluate.sweep.ledger import Graded, Ledger, Verdict
from jobs.evaluate.tasks import Item, Task

Judging = Callable[[Sequence[JudgeQuestion]], Sequence[Verdict]]
"""Asks a judge about answers; ``ungraded`` where it cannot be asked."""


@dataclass(frozen=True)
class _Claim:
    """What one answer says, of which its item's gold answer is another way to say it or not."""

    task: Task
    item: Item
    read: Read | str

    @property
    def pair(self) -> tuple[str, str]:
        """Gold answer and answer, where it takes more than reading to compare them."""
        assert isinstance(self.read, Read)
        assert self.read.extracted is not None
        return self.kind.gold(self.item.answer), self.read.extracted

    @property
    def kind(self) -> AnswerType:
        """How it is read and compared."""
        return ANSWER_TYPES[self.task.type]

    def waits_for(self, who: Literal["mathematics", "judge", "sandbox"]) -> bool:
        """Whether they have still to be asked."""
        return isinstance(self.read, Read) and self.read.same is None and self.kind.undecided == who


class Grader:
    """Grades answers of any task. A context manager: leaving it ends the processes that compare mathematics."""

    def __init__(self, judge: Judging | None = None, workers: Workers | None = None):
        self._judge = judge
        self._workers = workers or Workers()
        self._known: dict[tuple[str, str], Verdict] = {}
        """Verdicts on mathematics and programs, by gold answer and answer."""

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def grade(self, answers: Sequence[tuple[Task, Ledger]]) -> list[Graded]:
        """Each ledger with its verdict, in order. Raises KeyError when its item is not one of the task's."""
        texts = [_text(task, task.by_id[ledger.item], ledger.answer) for task, ledger in answers]
        different = list(dict.fromkeys(texts))
        known = dict(zip(different, self._workers.read(different), strict=True))
        claims = [
            _Claim(task, task.by_id[ledger.item], known[text])
            for (task, ledger), text in zip(answers, texts, strict=True)
        ]
        self._compare([claim.pair for claim in claims if claim.waits_for("mathematics")])
        self._try([claim.pair for claim in claims if claim.waits_for("sandbox")])
        judged = self._judged([claim for claim in claims if claim.waits_for("judge")])
        return [
            _graded(ledger, claim, self._verdict(claim, judged))
            for (_, ledger), claim in zip(answers, claims, strict=True)
        ]

    def _verdict(self, claim: _Claim, judged: Mapping[_Claim, Verdict]) -> Verdict:
        if isinstance(claim.read, str):
            return "error"
        if claim.read.extracted is None:
            return "no_answer"
        if claim.read.same is not None:
            return _verdict(claim.read.same)
        if claim.kind.undecided is None:
            return "error"
        return judged[claim] if claim.kind.undecided == "judge" else self._known[claim.pair]

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Makes the verdicts on these pairs of mathematics known."""
        hard = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        for pair, outcome in zip(hard, self._workers.compare(hard), strict=True):
            self._known[pair] = "error" if isinstance(outcome, str) else _verdict(outcome)

    def _try(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Makes the verdicts on these programs known, each tried on the tests that are its gold answer."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if new:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="sandbox") as pool:
                self._known |= zip(new, pool.map(_tried, new), strict=True)

    def _judged(self, claims: Sequence[_Claim]) -> dict[_Claim, Verdict]:
        """Verdicts on free answers that are not the gold one word by word."""
        asked = {
            claim: JudgeQuestion(claim.task.name, claim.item.id, claim.item.question, *claim.pair) for claim in claims
        }
        if not asked:
            return {}
        unknown: Sequence[Verdict] = ["ungraded"] * len(asked)
        return dict(zip(asked, unknown if self._judge is None else self._judge(list(asked.values())), strict=True))


def _tried(pair: tuple[str, str]) -> Verdict:
    try:
        return _verdict(programs.passes(*pair))
    except SandboxError:
        return "error"


def form_of(task: Task, item: Item) -> tuple[str, str, bool, str]:
    """How answers to an item are read: what a :class:`Text` says before the answer."""
    gold = "" if ANSWER_TYPES[task.type].undecided == "sandbox" else item.answer  # tests may be megabytes
    return task.type, item.letters, task.fallback, gold


def _text(task: Task, item: Item, answer: str) -> Text:
    return Text(*form_of(task, item), answer)


def _graded(ledger: Ledger, claim: _Claim, verdict: Verdict) -> Graded:
    read = claim.read if isinstance(claim.read, Read) else Read(None, "none", None, None)
    gold = claim.kind.shown(claim.item.answer)
    return Graded(ledger, claim.task.name, gold, read.extracted, read.rule, read.meaning, _counted(ledger, verdict))


def _counted(ledger: Ledger, verdict: Verdict) -> Verdict:
    """Thinking that went beyond its budget, on a server that ignored it, is not what the policy would have given."""
    return "error" if ledger.thinking_end == "ignored" else verdict


def _verdict(same: bool) -> Verdict:
    return "correct" if same else "wrong"
