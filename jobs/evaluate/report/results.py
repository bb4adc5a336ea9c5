"""What a finished sweep says in its own files: nothing is measured again for a report.

``curves.json`` has the points, ``comparisons.json`` their differences, ``methods.json`` what they come to,
``frontier.json`` which are worth their cost, ``equal_tokens.json`` searches beside votes, ``published.json`` what
others measured, ``decode.json`` what they cost, ``samples.parquet`` every verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.drawing import SAMPLING
from jobs.evaluate.figures import equal_tokens
from jobs.evaluate.stats.statistic import STATISTICS, Statistic
from jobs.evaluate.stopping import findings
from jobs.evaluate.sweep.policy import Policy
from orchestrator.job.context import StepContext
from orchestrator.job.record import FinishedStep

CurvePoint = Mapping[str, Any]
"""A point of ``curves.json``: its policy's fields, its label, and its row of the table."""

Record = Mapping[str, Any]
"""A row of one of the other files."""


@dataclass(frozen=True)
class PlottedCurve:
    """A line of the plot, as ``curves.json`` has it."""

    task: str
    name: str
    points: Sequence[CurvePoint]

    @property
    def scored(self) -> str:
        """What the points' accuracy is: ``accuracy``, ``pass@k``, ``majority@k``."""
        return str(self.points[0].get("score", "accuracy"))

    @property
    def is_budget(self) -> bool:
        """Whether the points are budgets: a line that stands for every length in between."""
        return self.scored == "accuracy" and not self.is_rule and all(not point["count"] for point in self.points)

    @property
    def is_rule(self) -> bool:
        """Whether the points are settings of a stopping rule, between which there is nothing."""
        return bool(self.points[-1].get("replayed"))


@dataclass(frozen=True)
class FinishedSweep:
    """One finished sweep."""

    step: FinishedStep

    @property
    def config(self) -> EvaluateConfig:
        return cast(EvaluateConfig, self.step.config)

    @property
    def context(self) -> StepContext:
        return self.step.context

    @property
    def name(self) -> str:
        """The step's."""
        return self.context.name

    @property
    def model(self) -> str:
        """As it is called: the step that made it, its folder's last name, or its name on a hub or a server."""
        return self.config.model_name

    @property
    def samples(self) -> Path:
        """A row per item, sample and policy."""
        return self.context.output / "samples.parquet"

    @property
    def policies(self) -> tuple[Policy, ...]:
        return self.config.policies

    @cached_property
    def curves(self) -> tuple[PlottedCurve, ...]:
        return tuple(PlottedCurve(each["task"], each["curve"], each["points"]) for each in self._read("curves.json"))

    @cached_property
    def decode(self) -> Mapping[str, Any]:
        """What decoding took: units, tokens, seconds."""
        decode: Mapping[str, Any] = self._read("decode.json")
        return decode

    @property
    def sampling(self) -> Mapping[str, float]:
        """How tokens were drawn: temperature, top_p, and what else changed something."""
        drawn = self.decode.get("sampling", {name: getattr(self.config, name) for name in SAMPLING})
        return {
            name: value for name, value in drawn.items() if name in ("temperature", "top_p") or value != SAMPLING[name]
        }

    @cached_property
    def costs(self) -> Sequence[Record]:
        """What each point cost; nothing where nothing was held for the sweep."""
        if "costs" not in self.decode:
            return ()
        points: list[Record] = self._read("costs.json")["points"]
        return points

    @cached_property
    def comparisons(self) -> Sequence[Record]:
        """All pairs of points, the surest difference first."""
        comparisons: list[Record] = self._read("comparisons.json")["comparisons"]
        return sorted(comparisons, key=lambda each: (_last(each["p_holm"]), _last(each["t_p_value"])))

    @cached_property
    def methods(self) -> Sequence[Record]:
        """What each way of spending more thinking comes to."""
        methods: list[Record] = self._read("methods.json")
        return methods

    @cached_property
    def frontiers(self) -> Sequence[Record]:
        """What is worth its cost: each task over each kind of cost."""
        frontiers: list[Record] = self._read("frontier.json")
        return frontiers

    @cached_property
    def equal_tokens(self) -> Sequence[Record]:
        """Searches beside votes at as many tokens; nothing where the sweep has no search."""
        return equal_tokens.read(self.context.output)

    @cached_property
    def stopping(self) -> Sequence[Record]:
        """What probes say of thinking, by task; nothing where the sweep has no rules."""
        return findings.read(self.context.output)

    @cached_property
    def published(self) -> tuple[str, Sequence[Record]]:
        """Where others' values are from, and each beside ours; nothing where the experiment file has none."""
        if self.config.published is None:
            return "", ()
        published = self._read("published.json")
        return published["source"], published["values"]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(curve.task for curve in self.curves))

    def of_task(self, task: str) -> list[PlottedCurve]:
        """The curves that share a set of axes."""
        return [curve for curve in self.curves if curve.task == task]

    def points(self, task: str) -> list[CurvePoint]:
        """Each policy's point once, in the order of the curves; pass@k and majority@k are not among them."""
        by_name = {
            str(point["policy"]): point
            for curve in self.of_task(task)
            if curve.scored == "accuracy"
            for point in curve.points
        }
        return list(by_name.values())

    def _read(self, name: str) -> Any:
        return json.loads((self.context.output / name).read_text())


def percent(share: float | None) -> str:
    """``95.5%``; a dash where the share is undefined."""
    return "–" if share is None else f"{100 * share:.1f}%"


def points_of_100(share: float | None) -> str:
    """``+47.5``: a difference of shares in percentage points."""
    return "–" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def _last(value: float | None) -> float:
    return math.inf if value is None else value


def difference(point: CurvePoint | Record) -> str:
    """``+47.5 (+40.0 … +54.5)``: what a point gains over the natural end, or a policy over another; empty where that
    is undefined."""
    if point["difference"] is None:
        return ""
    low, high = points_of_100(point["difference_low"]), points_of_100(point["difference_high"])
    return f"{points_of_100(point['difference'])} ({low} … {high})"


def statistic_columns(points: Sequence[CurvePoint], endings: bool = True) -> dict[str, Callable[[CurvePoint], str]]:
    """What each statistic that these points have says of a point, by its title; without `endings`, of those alone that
    are drawn nowhere."""
    columns: dict[str, Callable[[CurvePoint], str]] = {}
    for name, statistic in STATISTICS.items():
        wanted = endings or not statistic.ending
        if wanted and statistic.is_shown([point.get(name) for point in points]):
            columns[statistic.title] = partial(_statistic, name, statistic)
    return columns


def _statistic(name: str, statistic: Statistic, point: CurvePoint) -> str:
    return statistic.shown(point.get(name), point.get(f"{name}_low"), point.get(f"{name}_high"))


def p_value(value: float | None) -> str:
    """``0.166``, ``<0.001``; empty where there is none."""
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float) -> str:
    """``178,479``; one decimal below a thousand unless whole."""
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:,.1f}"


def tokens(point: CurvePoint, name: str) -> str:
    """``34.0 (33.3 – 36.1)``: a mean of tokens with its interval, for other items."""
    low, high = point.get(f"{name}_low"), point.get(f"{name}_high")
    shown = f"{point[name]:,.1f}"
    return shown if low is None or high is None else f"{shown} ({low:,.1f} – {high:,.1f})"


def range_text(point: CurvePoint) -> str:
    """``45.0% – 55.0%``: accuracy if what was not graded is wrong, and if it is right; empty where all was."""
    if point.get("accuracy_least") is None:
        return ""
    return f"{percent(point['accuracy_least'])} – {percent(point['accuracy_most'])}"
