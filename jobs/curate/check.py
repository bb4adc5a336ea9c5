"""What can be told of a ``curate`` step before the traces that it takes are paid for: too few rows, unknown domains, a
policy that a sweep does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from jobs.curate.config import CurateConfig
from jobs.curate.reading import read
from jobs.evaluate.config import EvaluateConfig
from jobs.forecasts import DatasetForecast
from orchestrator.job.config import Problem, Upcoming
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import Reference


def check(config: CurateConfig, inputs: Mapping[str, Upcoming]) -> Iterator[Problem]:
    """What is wrong whatever the rows turn out to be; of rows that are there already, what is wrong with them."""
    yield from _unknown_policies(config, inputs)
    file = _rows(config, inputs)
    if file is not None:
        yield from _of_rows(config, file)
        return
    assert isinstance(config.data, Reference), "only what a step makes may not be there yet"
    made, size = inputs[config.data.step].forecast, config.select.size
    if size is not None and isinstance(made, DatasetForecast) and made.samples is not None and size > made.samples:
        yield _too_many(size, made.samples, f"{config.data} makes at most")


def _rows(config: CurateConfig, inputs: Mapping[str, Upcoming]) -> Path | None:
    """The user's own file, or what the step made that it takes; None until that is done."""
    if not isinstance(config.data, Reference):
        return config.data.path
    output = inputs[config.data.step].output
    return None if output is None else Dataset(output).train


def _of_rows(config: CurateConfig, file: Path) -> Iterator[Problem]:
    size, column = config.select.size, None if config.domains is None else config.domains.column
    count, columns, domains = 0, dict[str, None](), set[str]()
    for _, row in read(file, str(config.data)):
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


def _unknown_policies(config: CurateConfig, inputs: Mapping[str, Upcoming]) -> Iterator[Problem]:
    """What ``difficulty`` asks of sweeps that do not compare it."""
    asked = config.difficulty
    if asked is None:
        return
    wanted: list[tuple[tuple[str, ...], Reference, str]] = [
        (("difficulty", "policy"), sweep, asked.policy) for sweep in asked.wrong_in
    ]
    if asked.accuracy is not None:
        wanted.append((("difficulty", "accuracy", "policy"), asked.accuracy.of, asked.accuracy.policy))
    for field, sweep, policy in wanted:
        of_sweep = inputs[sweep.step].config
        names = [each.name for each in of_sweep.policies] if isinstance(of_sweep, EvaluateConfig) else [policy]
        if policy not in names:
            yield Problem(field, f"{sweep} has no policy {policy!r}: it has {', '.join(names[:8])}")


def _too_many(size: int, there: int, who: str) -> Problem:
    return Problem(("select", "size"), f"{size:,} rows are asked for, and {who} {there:,}: ask for fewer")
