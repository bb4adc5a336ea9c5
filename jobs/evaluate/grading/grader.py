"""Verdicts on answers: what each says, compared with its gold answer by the rules of the task's type.

Answers are graded many at a time, and each pair of gold answer and answer once: most samples of a sweep say what
another said before. What symbolic mathematics has no verdict on is an ``error``, and what no judge could be asked about
is ``ungraded``; neither is ever counted as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from jobs.evaluate.grading.extraction import Extracted, extract
from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.judge import Question
from jobs.evaluate.grading.mathematics import decided
from jobs.evaluate.grading.words import plain, words
from jobs.evaluate.grading.workers import Workers
from jobs.evaluate.ledger import Graded, Ledger, Verdict
from jobs.evaluate.tasks import Item, Task

Judging = Callable[[Sequence[Question]], Sequence[Verdict]]
"""Asks a judge about answers; ``ungraded`` where it cannot be asked."""


@dataclass(frozen=True)
class _Claim:
    """One answer that has to be compared with its item's gold answer."""

    task: Task
    item: Item
    said: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.item.answer, self.said


class Grader:
    """Grades answers of any task. A context manager: leaving it ends the processes that compare mathematics."""

    def __init__(self, judge: Judging | None = None, workers: Workers | None = None):
        self._judge = judge
        self._workers = workers or Workers()
        self._known: dict[tuple[str, str], Verdict] = {}
        """Verdicts on mathematics, by gold answer and answer."""

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def grade(self, answers: Sequence[tuple[Task, Ledger]]) -> list[Graded]:
        """Each ledger with its verdict, in order. Raises KeyError when its item is not one of the task's."""
        extracted: list[Extracted] = []
        claims: list[_Claim | None] = []
        for task, ledger in answers:
            item = task.by_id[ledger.item]
            found = extract(ledger.answer, task.type, item.letters, task.fallback)
            extracted.append(found)
            claims.append(None if found.text is None else _Claim(task, item, found.text))
        verdicts = self._verdicts([claim for claim in claims if claim is not None])
        of_claims = iter(verdicts)
        return [
            Graded(
                ledger,
                task.name,
                task.by_id[ledger.item].answer,
                found.text,
                found.rule,
                _counted(ledger, "no_answer" if claim is None else next(of_claims)),
            )
            for (task, ledger), found, claim in zip(answers, extracted, claims, strict=True)
        ]

    def _verdicts(self, claims: Sequence[_Claim]) -> list[Verdict]:
        self._compare([claim.pair for claim in claims if claim.task.type == "math"])
        judged = self._judged([claim for claim in claims if claim.task.type == "judged"])
        return [judged[claim] if claim in judged else self._by_rule(claim) for claim in claims]

    def _by_rule(self, claim: _Claim) -> Verdict:
        gold, said = claim.pair
        if claim.task.type == "math":
            return self._known[claim.pair]
        if claim.task.type == "integer":
            return _verdict(canonical_integer(said) == canonical_integer(gold))
        if claim.task.type == "choice":
            return _verdict(said == gold)
        return _verdict(words(said) == words(gold))

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Makes the verdicts on these pairs of mathematics known."""
        hard = []
        for pair in dict.fromkeys(pairs):
            if pair not in self._known:
                plainly = decided(*pair)
                if plainly is None:
                    hard.append(pair)
                else:
                    self._known[pair] = _verdict(plainly)
        for pair, outcome in zip(hard, self._workers.compare(hard), strict=True):
            self._known[pair] = "error" if isinstance(outcome, str) else _verdict(outcome)

    def _judged(self, claims: Sequence[_Claim]) -> dict[_Claim, Verdict]:
        """Verdicts on free answers: the same words are the same answer, all others are the judge's affair."""
        found: dict[_Claim, Verdict] = {}
        asked: dict[_Claim, Question] = {}
        for claim in claims:
            gold, said = claim.pair
            if plain(said) == plain(gold) or words(said) == words(gold):
                found[claim] = "correct"
            else:
                asked[claim] = Question(claim.task.name, claim.item.id, claim.item.question, gold, said)
        if asked:
            unknown: Sequence[Verdict] = ["ungraded"] * len(asked)
            verdicts = unknown if self._judge is None else self._judge(list(asked.values()))
            found.update(zip(asked, verdicts, strict=True))
        return found


def _counted(ledger: Ledger, verdict: Verdict) -> Verdict:
    """Thinking that went beyond its budget, on a server that ignored it, is not what the policy would have given."""
    return "error" if ledger.thinking_end == "ignored" else verdict


def _verdict(same: bool) -> Verdict:
    return "correct" if same else "wrong"
