"""The ``curate`` kind of step: what it is and can do."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.curate.config import CurateConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Upcoming
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job
from orchestrator.job.references import Reference


def _forecast(config: CurateConfig, inputs: Mapping[str, Upcoming]) -> DatasetForecast:
    """As many rows as are selected, as long as those of the data are."""
    made = inputs[config.data.step].forecast if isinstance(config.data, Reference) else None
    known = made if isinstance(made, DatasetForecast) else DatasetForecast()
    samples = known.samples if config.select.size is None else config.select.size
    return DatasetForecast(samples=samples, tokens_per_sample=known.tokens_per_sample, thinking=known.thinking)


JOB = Job(
    config=CurateConfig,
    run=lazy("jobs.curate.run:run"),
    check=lazy("jobs.curate.check:check"),
    forecast=_forecast,
)
