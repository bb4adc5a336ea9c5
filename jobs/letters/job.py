"""The ``letters`` kind of step: what it is and can do."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.forecasts import DatasetForecast
from jobs.letters.config import THINKING, LettersConfig
from orchestrator.job.config import Upcoming
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job

_TOKENS_PER_SAMPLE = 50
"""A trace in bytes, on average, with its chat markers."""


def _forecast(config: LettersConfig, inputs: Mapping[str, Upcoming]) -> DatasetForecast:
    return DatasetForecast(
        samples=config.train,
        tokens_per_sample=_TOKENS_PER_SAMPLE,
        questions=config.test,
        thinking=THINKING,
    )


JOB = Job(config=LettersConfig, run=lazy("jobs.letters.run:run"), forecast=_forecast, short=True)
