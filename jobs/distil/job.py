"""The ``distil`` kind of step: what it is and can do."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.distil.config import DistilConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Upcoming
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job
from orchestrator.job.references import Reference


def _forecast(config: DistilConfig, inputs: Mapping[str, Upcoming]) -> DatasetForecast:
    """As if every sample were kept, where it is known how many questions there are."""
    made = [inputs[task.path.step].forecast if isinstance(task.path, Reference) else None for task in config.tasks]
    known = [
        before.questions if isinstance(before, DatasetForecast) else task.known_items()
        for task, before in zip(config.tasks, made, strict=True)
    ]
    counts = [count for count in known if count is not None]
    each = config.samples if config.per_question is None else min(config.samples, config.per_question)
    return DatasetForecast(samples=sum(counts) * each if len(counts) == len(known) else None)


JOB = Job(
    config=DistilConfig,
    run=lazy("jobs.distil.run:run"),
    check=lazy("jobs.evaluate.check:check"),
    estimate=lazy("jobs.evaluate.planning.estimate:estimate"),
    forecast=_forecast,
    try_model=lazy("jobs.evaluate.attempts.start:try_model"),
)
