"""What a sweep cost, and what of it each of its points did.

The policies of a sweep are decoded in one pass, and a token that several need is decoded once, so the cost of a point
has two meanings, and both are given:

- **by itself**: what the policy alone would have cost: the tokens that it needs, at what this sweep took for a token;
- **its share** of what the one pass cost: its tokens, of those that all points need one by one. Shares add up to the
  whole.

Costs differ from run to run, and a sweep that finds its traces in the store costs nothing; so they are no part of the
tables, which are the same whoever made them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.evaluate.figures.tables import TableRow, measured_points
from jobs.evaluate.stats.curves import MeasuredCurve, Point
from jobs.evaluate.stats.statistic import Value
from orchestrator.job.usage import Held, Spending


@dataclass(frozen=True)
class Costs:
    """What all attempts at a sweep came to."""

    device: str
    """``GPU``, or ``core``."""
    device_seconds: float
    usd: float
    device_seconds_per_token: float | None
    """Of the last attempt; None where it decoded nothing."""
    usd_per_token: float | None

    def record(self) -> dict[str, Any]:
        """As ``decode.json`` has it."""
        return asdict(self)


def costs(device: str, held: Held, before: Spending | None) -> Costs:
    """What a sweep came to whose last attempt `held` so much."""
    return Costs(
        device=device,
        device_seconds=held.device_seconds + (before.device_seconds if before else 0.0),
        usd=held.usd + (before.usd if before else 0.0),
        device_seconds_per_token=held.device_seconds / held.tokens if held.tokens else None,
        usd_per_token=held.usd / held.tokens if held.tokens else None,
    )


def read(decode: Mapping[str, Any]) -> Costs | None:
    """From ``decode.json``; None where they were not kept."""
    record = decode.get("costs")
    return None if record is None else Costs(**record)


def of_points(curves: Iterable[MeasuredCurve], costs: Costs) -> dict[tuple[str, str], dict[str, float]]:
    """What each point cost, by its task and name: ``gpu_seconds`` and ``cost_usd`` are its share, and the same with
    ``_alone`` what it is by itself. Those of votes are made of the natural end's samples: they have no
    share."""
    points = {(task, each.name): each for task, members in measured_points(curves).items() for each in members}
    total = sum(_tokens(point) for point in points.values() if point.vote is None)
    seconds = f"{costs.device.lower()}_seconds"
    by_point: dict[tuple[str, str], dict[str, float]] = {}
    for key, point in points.items():
        tokens = _tokens(point)
        of_point = {"tokens_alone": tokens}
        scored = point.statistics.get("scorer_tokens", Value(math.nan)).value
        if not math.isnan(scored):
            of_point["scorer_tokens_alone"] = point.samples * scored
        if costs.device_seconds_per_token is not None and costs.usd_per_token is not None:
            of_point[f"{seconds}_alone"] = tokens * costs.device_seconds_per_token
            of_point["cost_usd_alone"] = tokens * costs.usd_per_token
        if point.vote is None and total:
            of_point["share"] = tokens / total
            of_point[seconds] = of_point["share"] * costs.device_seconds
            of_point["cost_usd"] = of_point["share"] * costs.usd
        by_point[key] = of_point
    return by_point


def rows(curves: Iterable[MeasuredCurve], costs: Costs) -> list[TableRow]:
    """``costs.json``'s."""
    named = of_points(curves, costs)
    return [{"task": task, "policy": name, **values} for (task, name), values in named.items()]


def _tokens(point: Point) -> float:
    """That the policy by itself decodes, of all samples."""
    return point.samples * point.decoded_tokens
