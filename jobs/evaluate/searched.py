"""From the traces that a search keeps to its one answer.

All of them are graded, as any sample is. Answers that mean the same are one candidate, whatever the gold answer is, and
the candidate with the most weight is elected; of equals, the first. What stands for it is its best trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.evaluate.sweep.ledger import AnswerEnd, Graded, Ledger
from jobs.evaluate.sweep.prompts import Prompter, Unit
from jobs.evaluate.sweep.search import Forest, Found, SearchLeaf, SearchPolicy, read_key
from jobs.evaluate.sweep.tree import Key, Known
from jobs.evaluate.tasks import Task

WEIGHTS: Mapping[str, Callable[[float], float]] = {"weighted": lambda score: score, "majority": lambda score: 1.0}
"""What a trace's vote counts by its score. The best trace has no need of votes."""


@dataclass(frozen=True)
class Slate:
    """What one row of the samples is made of: ledgers, of which one is elected."""

    task: Task
    ledgers: tuple[Ledger, ...]
    tokens: int
    """That the policy alone would have decoded."""
    vote: str = "best"
    spent: Ledger | None = None
    """What all of them took together, where that is more than the elected one's own."""

    def elected(self, graded: Sequence[Graded]) -> Graded:
        """The row; `graded` are the ledgers with their verdicts."""
        first = graded[elect([each.meaning for each in graded], [each.ledger.score for each in graded], self.vote)]
        if self.spent is None:
            return first
        counts = ("thinking_tokens", "answer_tokens", "scorer_tokens")
        return replace(first, ledger=replace(first.ledger, **{name: getattr(self.spent, name) for name in counts}))


def elect(meanings: Sequence[str | None], scores: Sequence[float | None], vote: str) -> int:
    """The number of the trace that stands for the elected answer. Traces that say nothing have no vote, unless none
    does."""
    voting = [number for number, meaning in enumerate(meanings) if meaning is not None] or list(range(len(meanings)))
    if vote in WEIGHTS:
        weights: dict[str | None, float] = {}
        for number in voting:
            weights[meanings[number]] = weights.get(meanings[number], 0.0) + WEIGHTS[vote](scores[number] or 0.0)
        winner = max(weights, key=lambda meaning: weights[meaning])
        voting = [number for number in voting if meanings[number] == winner]
    return max(voting, key=lambda number: scores[number] or 0.0)


@dataclass(frozen=True)
class Candidates:
    """What the searches of one unit kept."""

    forest: Forest
    unit: Unit
    known: Known
    answers: Mapping[Key, Sequence[int]]
    """Their tokens."""
    prompter: Prompter

    def slates(self, task: Task, item: str, policy: SearchPolicy) -> Iterator[Slate]:
        """Those of `policy`: one, or as many as it has traces that stand each for itself. Raises ValueError where the
        search is not done."""
        outcome = self.forest.found(policy, self.unit.room, self.known)
        if policy.elects:
            yield self._slate(task, item, policy, outcome)
            return
        for number in range(policy.width):
            one = Found(outcome.nodes[number : number + 1], outcome.leaves[number : number + 1])
            yield self._slate(task, item, policy, one, self.unit.sample * policy.width + number)

    def _slate(self, task: Task, item: str, policy: SearchPolicy, found: Found, sample: int | None = None) -> Slate:
        spent = self._spent(item, policy, found)
        spent = spent if sample is None else replace(spent, sample=sample)
        ledgers = tuple(self._ledger(spent, leaf) for leaf in found.leaves)
        tokens = spent.thinking_tokens + spent.answer_tokens
        return Slate(task, ledgers or (spent,), tokens, policy.vote, spent)

    def _spent(self, item: str, policy: SearchPolicy, found: Found) -> Ledger:
        """All that the search took, as the account of one that found nothing."""
        kept = {leaf.answer for leaf in found.leaves}
        probes = sum(self._length(answer) for answer in self._probed(found) if answer not in kept)
        return Ledger(
            item=item,
            sample=self.unit.sample,
            policy=policy.name,
            thinking_tokens=sum(self.known(Key(path, "thinking")).length for path in found.nodes),
            injected_tokens=0,
            answer_tokens=sum(self._length(leaf.answer) for leaf in found.leaves),
            thinking_end="context",
            answer_end="context",
            extensions_used=0,
            extensions_skipped=0,
            continued=False,
            asked=None,
            tries=1,
            answer="",
            scorer_tokens=probes + sum(self.known(read_key(path, self.forest.scorer)).length for path in found.nodes),
        )

    def _ledger(self, spent: Ledger, leaf: SearchLeaf) -> Ledger:
        tokens = self.answers.get(leaf.answer, [])[: self.unit.room.answer]
        answer_end: AnswerEnd = "stop" if self.known(leaf.answer).length < self.unit.room.answer else "length"
        return replace(
            spent,
            thinking_tokens=leaf.thinking_tokens,
            answer_tokens=len(tokens),
            thinking_end=leaf.end,
            answer_end=answer_end,
            continued=self.prompter.reopens(tokens),
            answer=self.prompter.answer(leaf.answer.closing, tokens),
            score=leaf.score,
            scorer_tokens=0,
        )

    def _probed(self, found: Found) -> list[Key]:
        """Answers that were decoded for the scorer's sake, at every node."""
        if not self.forest.reads_answers:
            return []
        return [self.forest.answer_at(path, self.known) for path in found.nodes]

    def _length(self, answer: Key) -> int:
        return min(self.known(answer).length, self.unit.room.answer)
