"""What can be told of a ``curate`` step before the traces that it takes are paid for: too few rows, unknown domains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobs.curate.config import CurateConfig
from jobs.curate.reading import read
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Problem, Upcoming
from orchestrator.job.references import Reference


def check(config: CurateConfig, inputs: Mapping[str, Upcoming]) -> Iterator[Problem]:
    """What is wrong whatever the rows turn out to be."""
    size = config.select.size
    if isinstance(config.data, Reference):
        made = inputs[config.data.step].forecast
        if size is not None and isinstance(made, DatasetForecast) and made.samples is not None and size > made.samples:
            yield _too_many(size, made.samples, f"{config.data} makes at most")
        return
    column = None if config.domains is None else config.domains.column
    count, columns, domains = 0, dict[str, None](), set[str]()
    for _, row in read(config.data.path, str(config.data)):
        count += 1
        columns |= dict.fromkeys(row.columns)
        if column is not None:
            domains.add(str(row.columns.get(column) or ""))
    if size is not None and size > count:
        yield _too_many(size, count, f"{config.data} has")
    if column is not None and column not in columns:
        there = ", ".join(sorted(columns))
        yield Problem(("domains",), f"no row of {config.data} has a column {column!r}: give one of {there}")
    elif column is not None and (strange := sorted(config.select.weights.keys() - domains)):
        known = ", ".join(sorted(domains)[:12])
        yield Problem(("select", "weights"), f"there is no domain {strange[0]!r} in {config.data}: it has {known}")


def _too_many(size: int, there: int, who: str) -> Problem:
    return Problem(("select", "size"), f"{size:,} rows are asked for, and {who} {there:,}: ask for fewer")
