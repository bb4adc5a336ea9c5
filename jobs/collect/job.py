"""The ``collect`` kind of step: what it is and can do."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.collect.config import CollectConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Upcoming
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job


def _forecast(config: CollectConfig, inputs: Mapping[str, Upcoming]) -> DatasetForecast:
    """At most so many questions: as if none were dropped, where it is known how many there are."""
    counts = []
    for source in config.sources:
        known = source.known_items()
        counts.append(known if source.quota is None else min(source.quota, known or source.quota))
    known_counts = [count for count in counts if count is not None]
    return DatasetForecast(questions=sum(known_counts) if len(known_counts) == len(counts) else None)


JOB = Job(config=CollectConfig, run=lazy("jobs.collect.run:run"), forecast=_forecast)
