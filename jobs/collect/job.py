"""The ``collect`` kind of step: what it is and can do."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.collect.config import CollectConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Upcoming
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job
from orchestrator.job.references import Reference


def _forecast(config: CollectConfig, inputs: Mapping[str, Upcoming]) -> DatasetForecast:
    """At most so many questions: as if none were dropped, where it is known how many there are."""
    counts: list[int] = []
    made = []
    for source in config.sources:
        before = inputs[source.path.step].forecast if isinstance(source.path, Reference) else None
        made.append(before.thinking if isinstance(before, DatasetForecast) else None)
        known = before.questions if isinstance(before, DatasetForecast) else source.known_items()
        counts += [min(each for each in (known, source.items, source.quota) if each is not None)] if known else []
    alike = made[0] if len(set(made)) == 1 else None
    return DatasetForecast(questions=sum(counts) if len(counts) == len(config.sources) else None, thinking=alike)


JOB = Job(config=CollectConfig, run=lazy("jobs.collect.run:run"), forecast=_forecast)
