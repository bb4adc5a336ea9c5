"""The grader as a scorer: 1 where the answer that a trace gives where it stands is right, else 0.

It knows the gold answers, so a search by it is an upper bound on what any scorer makes of the same search. It costs the
answers that the model gives at steps at which no trace ends.
"""

from __future__ import annotations

import asyncio

from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.scorers.protocol import ScorerSpec, Standing, StepScore
from jobs.evaluate.sweep.ledger import Ledger
from jobs.evaluate.sweep.prompts import Prompter


async def start(spec: ScorerSpec) -> ExactScorer:
    """Its processes start when there is something to grade."""
    return ExactScorer(spec, Grader())


class ExactScorer:
    """A grader, asked in a thread."""

    def __init__(self, spec: ScorerSpec, grader: Grader):
        writer = spec.writer
        self._spec = spec
        self._grader = grader
        self._prompter = Prompter(writer.tokenizer, writer.template, writer.end_of_turn, writer.said)

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        assert standing.answer is not None, "it reads answers"
        number, item = self._spec.items[standing.unit]
        text = self._prompter.answer(standing.closing, standing.answer)
        graded = await asyncio.to_thread(self._grader.grade, [(self._spec.tasks[number], _ledger(item, text))])
        return StepScore(float(graded[0].verdict == "correct"), 0)

    async def close(self) -> None:
        """Ends the processes that grade."""
        await asyncio.to_thread(self._grader.__exit__, None, None, None)


def _ledger(item: str, answer: str) -> Ledger:
    """An account of which only the answer counts."""
    return Ledger(item, 0, "", 0, 0, 0, "natural", "stop", 0, 0, False, None, 1, answer)
