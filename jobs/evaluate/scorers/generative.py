"""A language model as a process reward model: how likely it is to write what stands for good, and not for bad.

The score is p(good) / (p(good) + p(bad)) of the next token after the trace, laid out as the model was trained to read
it (:mod:`jobs.evaluate.scorers.layout`). Any engine that says how likely tokens are runs it, with its prefix cache:
what was read of a trace before costs its new tokens only, and is counted whole.
"""

from __future__ import annotations

import math
from contextlib import aclosing

from jobs.evaluate.engines import starting
from jobs.evaluate.engines.protocol import Engine, Request
from jobs.evaluate.scorers.layout import VerdictLayout, verdict_layout
from jobs.evaluate.scorers.protocol import ScorerSpec, Standing, StepScore


async def start(spec: ScorerSpec) -> GenerativeScorer:
    """Loads the model."""
    assert spec.engine is not None, "a generative scorer has a model"
    engine = await starting.start(spec.engine, spec.made)
    return GenerativeScorer(spec, engine, verdict_layout(spec))


class GenerativeScorer:
    """A model that is asked for one token."""

    def __init__(self, spec: ScorerSpec, engine: Engine, written: VerdictLayout):
        self._spec = spec
        self._engine = engine
        self._layout = written

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        prompt = self._layout.prompt(self._spec.question(standing.unit), self._spec.texts(standing))
        asked = Request(prompt, 1, (), among=self._layout.verdicts)
        async with aclosing(self._engine.stream(asked)) as stream:
            ((good, bad),) = [each async for chunk in stream for each in chunk.chances]
        return StepScore(1 / (1 + math.exp(min(bad - good, 700))), len(prompt))

    async def close(self) -> None:
        """Ends the engine."""
        await self._engine.close()
