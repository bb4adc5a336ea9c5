"""A training run while it trains: its losses, from what the step tracked so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.finetune.config import FinetuneConfig
from orchestrator.job.context import StepContext
from orchestrator.job.html import template
from orchestrator.job.record import LiveSection
from orchestrator.job.tracked_run import GrowingLines, MetricLine

WIDTH, HEIGHT, LEFT, BOTTOM = 900, 260, 48, 34
"""Pixels."""
MOST = 450
"""Points of a line: two pixels each."""
LINES = {"loss": "training", "evaluation_loss": "held out"}


@dataclass(frozen=True)
class LossLine:
    """One line of the picture."""

    name: str
    path: str
    last: str


def follow(config: FinetuneConfig, context: StepContext) -> TrainingFollower:
    """What looks at one training run."""
    return TrainingFollower(context)


class TrainingFollower:
    """Looks at one training run again and again, each time at what is new."""

    def __init__(self, context: StepContext):
        self._context = context
        self._runs: dict[Path, GrowingLines] = {}
        self._shown: LiveSection | None = None

    def look(self) -> LiveSection | None:
        """The losses so far; None before the first step."""
        self._context.check_out("tracked")
        paths = sorted(self._context.folder.glob("tracked/*/metrics.jsonl"))
        self._runs = {path: self._runs.get(path) or GrowingLines(path) for path in paths}
        changed = [run.refresh() for run in self._runs.values()]
        if any(changed):
            self._shown = self._drawn([line for run in self._runs.values() for line in run.lines])
        return self._shown

    def _drawn(self, lines: Sequence[MetricLine]) -> LiveSection | None:
        series = {
            name: [(line.step, line.values[name]) for line in lines if math.isfinite(line.values.get(name, math.nan))]
            for name in LINES
        }
        known = [point for points in series.values() for point in points]
        if not known:
            return None
        last = lines[-1]
        speed = last.values.get("tokens_per_second")
        return LiveSection(
            template("jobs.finetune", "live.html.j2").render(
                name=self._context.name,
                width=WIDTH,
                height=HEIGHT,
                left=LEFT,
                bottom=HEIGHT - BOTTOM,
                said=f"step {last.step:,}" + ("" if speed is None else f", {speed:,.0f} tokens/s"),
                lines=drawn({LINES[name]: points for name, points in series.items() if points}),
                ticks=[(round(at, 1), text) for at, text in _ticks([loss for _, loss in known])],
                steps=[(LEFT, "0"), (WIDTH - 8, f"{max(step for step, _ in known):,} steps")],
            )
        )


def drawn(series: dict[str, Sequence[tuple[int, float]]]) -> list[LossLine]:
    """Each series as a line, thinned to what pixels can show: of each stretch its mean."""
    points = [point for each in series.values() for point in each]
    end, low, high = max(step for step, _ in points) or 1, *_range([loss for _, loss in points])
    lines = []
    for name, each in series.items():
        stride = max(1, math.ceil(len(each) / MOST))
        parts = [each[at : at + stride] for at in range(0, len(each), stride)]
        places = [
            (
                LEFT + (WIDTH - 8 - LEFT) * part[-1][0] / end,
                _height(sum(loss for _, loss in part) / len(part), low, high),
            )
            for part in parts
        ]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        lines.append(LossLine(name, path, f"{each[-1][1]:.4g}"))
    return lines


def _range(losses: Sequence[float]) -> tuple[float, float]:
    low, high = min(losses), max(losses)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _height(loss: float, low: float, high: float) -> float:
    return 8 + (HEIGHT - BOTTOM - 8) * (high - loss) / (high - low)


def _ticks(losses: Sequence[float]) -> list[tuple[float, str]]:
    low, high = _range(losses)
    return [
        (_height(low + (high - low) * part / 4, low, high), f"{low + (high - low) * part / 4:.3g}") for part in range(5)
    ]
