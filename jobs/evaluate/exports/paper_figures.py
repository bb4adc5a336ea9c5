"""Every plot of a sweep at a paper's column width, as PDF and as SVG: text stays text, in 8 points, and nothing is
scaled when it is included.

3.25 inches are a column of ICML, ICLR's and NeurIPS's text is 5.5 wide: two of these side by side. Curves are told
apart by a legend below, as there is no room for names beside them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from jobs.evaluate.figures import plots
from jobs.evaluate.publish import results
from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.stats.curves import MeasuredCurve
from orchestrator.job.record import FinishedStep

WIDTH, HEIGHT, LEGEND_ROW = 3.25, 2.3, 0.15
"""Inches."""
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "text.parse_math": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",
}


def write_pdf(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``<task>-curves.pdf`` for each task."""
    _write(step, folder, "pdf", {"CreationDate": None})


def write_svg(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``<task>-curves.svg`` for each task."""
    _write(step, folder, "svg", {"Date": None})


def _write(step: FinishedStep, folder: Path, kind: str, metadata: dict[str, Any]) -> None:
    sweep = FinishedSweep(step)
    for task, curves in plots.by_task(results(sweep.config, sweep.samples).curves).items():
        slug = re.sub(r"[^A-Za-z0-9]+", "-", task).strip("-").lower()
        with matplotlib.rc_context(_STYLE):
            drawn(curves).savefig(folder / f"{slug}-curves.{kind}", metadata=metadata)


def drawn(curves: Sequence[MeasuredCurve]) -> Figure:
    """The curves of one task."""
    columns = 3
    legend = LEGEND_ROW * math.ceil(len(curves) / columns)
    figure = Figure(figsize=(WIDTH, HEIGHT + legend))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.135, (0.38 + legend) / (HEIGHT + legend), 0.845, (HEIGHT - 0.46) / (HEIGHT + legend)))
    if plots.logarithmic(curves):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xlabel(plots.x_title(curves), labelpad=1.5)
    axes.set_ylabel("accuracy", labelpad=1.5)
    axes.grid(True)
    axes.tick_params(length=0, pad=2)
    axes.set_axisbelow(True)
    for number, curve in enumerate(curves):
        x = [point.thinking_tokens for point in curve.points]
        y = [point.accuracy for point in curve.points]
        shade = plots.colour(number)
        low, high = ([getattr(point.interval, end) for point in curve.points] for end in ("low", "high"))
        if curve.varies == "budget":
            axes.fill_between(x, low, high, color=shade, alpha=0.15, linewidth=0)
        else:
            arms = [[max(0.0, value - end) for value, end in zip(y, low, strict=True)]]
            arms.append([max(0.0, end - value) for value, end in zip(y, high, strict=True)])
            axes.errorbar(x, y, arms, fmt="none", ecolor=shade, elinewidth=0.7, alpha=0.5)
        look: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "--"} if curve.varies == "k" else {}
        marker = plots.MARKERS[number % len(plots.MARKERS)]
        axes.plot(x, y, color=shade, marker=marker, markersize=3, linewidth=1.1, label=curve.name, **look)
    axes.set_ylim(0, 1.02)
    figure.legend(loc="lower center", ncols=columns, frameon=False, handlelength=1.6, columnspacing=1.2, borderpad=0.1)
    return figure
