"""The sweep in one picture: all curves of a task overlaid, accuracy against mean thinking tokens.

For a page or a slide: curves are labelled where they end, so there is no legend to look up. Intervals are those of
other items, across (tokens) and up (accuracy); fainter ones hold the whole curve at once. Where samples could not be
graded, a capped bar goes from all of them wrong to all right. Colours are those of Okabe
and Ito, which colour-blind readers can tell apart, in the order of the curves; markers differ too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from jobs.evaluate.figures.captions import AROUND, Captions, Offset
from jobs.evaluate.stats.curves import MeasuredCurve, Point
from jobs.evaluate.stats.intervals import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
LOG_FROM = 8.0
"""The ratio of most to fewest tokens from which their axis is logarithmic."""

X_TITLE = "mean thinking tokens"
INK = "#222222"
_FAINT = "#777777"
MARKERS = "os^Dv"
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}


def colour(number: int) -> str:
    """Of the curve with that number within its task."""
    return COLOURS[number % len(COLOURS)]


def by_task(curves: Sequence[MeasuredCurve]) -> dict[str, list[MeasuredCurve]]:
    """The curves that share a set of axes."""
    tasks: dict[str, list[MeasuredCurve]] = {}
    for curve in curves:
        tasks.setdefault(curve.task, []).append(curve)
    return tasks


def logarithmic(curves: Sequence[MeasuredCurve]) -> bool:
    """Whether tokens span enough, and none is 0."""
    tokens = [point.thinking_tokens for curve in curves for point in curve.points]
    return min(tokens) > 0 and max(tokens) / min(tokens) >= LOG_FROM


def ranges_explained(curves: Sequence[MeasuredCurve]) -> str:
    """What is said of capped bars; "" where there are none."""
    doubtful = any(point.range is not None for curve in curves for point in curve.points)
    return "Capped bars: samples that could not be graded, from all of them wrong to all right." if doubtful else ""


def x_title(curves: Sequence[MeasuredCurve]) -> str:
    """What their axis counts."""
    several = any(curve.varies == "k" for curve in curves)
    return X_TITLE + (" (of all k samples)" if several else "") + (", log scale" if logarithmic(curves) else "")


def write_png(curves: Sequence[MeasuredCurve], title: str, subtitle: str, path: Path) -> None:
    """One panel per task, side by side."""
    tasks = by_task(curves)
    with matplotlib.rc_context(STYLE):
        width, height = 1.8 + (7.2 if len(tasks) == 1 else 5.0 * len(tasks)), 5.4
        figure = Figure(figsize=(width, height), dpi=200)
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(tasks), squeeze=False)[0]
        # Margins in inches: axis titles on the left and below, names of curves on the right, the title above.
        figure.subplots_adjust(
            left=0.75 / width, right=1 - 1.2 / width, bottom=0.62 / height, top=1 - 0.95 / height, wspace=0.3
        )
        figure.text(0.2 / width, 1 - 0.18 / height, title, fontsize=15, fontweight="bold", va="top")
        figure.text(0.2 / width, 1 - 0.52 / height, subtitle, fontsize=10, color=_FAINT, va="top")
        figure.text(0.2 / width, 1 - 0.74 / height, ranges_explained(curves), fontsize=8.5, color=_FAINT, va="top")
        for axes, (task, members) in zip(panels, tasks.items(), strict=True):
            _draw(figure, axes, members)
            if len(tasks) > 1:
                axes.set_title(task, loc="left", fontsize=11.5, fontweight="bold")
        figure.savefig(path, metadata={"Software": None})


def _draw(figure: Figure, axes: Axes, curves: Sequence[MeasuredCurve]) -> None:
    if logarithmic(curves):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xlabel(x_title(curves))
    axes.set_ylabel("accuracy")
    axes.grid(True, which="major")
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    for number, curve in enumerate(curves):
        x = [point.thinking_tokens for point in curve.points]
        y = [point.accuracy for point in curve.points]
        shade = colour(number)
        order = 3 + 0.01 * number
        bars: dict[str, Any] = {"fmt": "none", "ecolor": shade, "zorder": order}
        if curve.varies == "budget":
            for interval, alpha in (([point.interval for point in curve.points], 0.13), (curve.band, 0.07)):
                low, high = ([getattr(each, end) for each in interval] for end in ("low", "high"))
                axes.fill_between(x, low, high, color=shade, alpha=alpha, linewidth=0, zorder=order)
        else:
            own_intervals = [point.interval for point in curve.points]
            axes.errorbar(x, y, _arms(y, own_intervals), elinewidth=1.3, alpha=0.45, **bars)
            axes.errorbar(x, y, _arms(y, curve.band), elinewidth=0.7, alpha=0.35, **bars)
        across = _arms(x, [point.thinking_spread.new_items for point in curve.points])
        axes.errorbar(x, y, xerr=across, elinewidth=1.0, alpha=0.4, **bars)
        doubtful = [point for point in curve.points if point.range is not None]
        if doubtful:
            ranges = [point.range or point.interval for point in doubtful]
            places = [point.thinking_tokens for point in doubtful], [point.accuracy for point in doubtful]
            axes.errorbar(*places, _arms(places[1], ranges), elinewidth=1.6, capsize=3, alpha=0.9, **bars)
        look: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "markeredgecolor": "white"}
        if curve.varies == "k":  # dashes and rings: not one longer trace, but many
            look |= {
                "linestyle": (0, (3, 1.2)),
                "markerfacecolor": "white",
                "markeredgecolor": shade,
                "markevery": slice(1, None),
            }
            look["markeredgewidth"] = 1.6
        elif curve.varies == "rule":  # points beside the curves: between two settings there is nothing
            look |= {"linestyle": "none", "markersize": 8}
        axes.plot(x, y, color=shade, linewidth=2, zorder=order, **look)
    axes.set_ylim(0, 1.04)
    axes.margins(x=0.05)
    _label(figure, axes, curves)


def _arms(values: Sequence[float], intervals: Sequence[Interval]) -> tuple[list[float], list[float]]:
    """How far each interval reaches below and above its value."""
    pairs = list(zip(values, intervals, strict=True))
    below = [max(0.0, value - each.low) for value, each in pairs]
    return below, [max(0.0, each.high - value) for value, each in pairs]


def _label(figure: Figure, axes: Axes, curves: Sequence[MeasuredCurve]) -> None:
    """Writes the names of curves where they end, and beside points what sets them apart; not twice the same."""
    captions = Captions(figure, axes)
    for curve in curves:
        places = [(point.thinking_tokens, point.accuracy) for point in curve.points]
        for place in places:
            captions.keep_off(*place)
        for start, end in pairwise(places if curve.varies != "rule" else ()):
            captions.keep_off_line(start, end)

    def write(point: Point, text: str, shade: str, offsets: Sequence[Offset] = AROUND, size: float = 8.5) -> None:
        captions.write(point.thinking_tokens, point.accuracy, text, shade, offsets, size)

    def pixel(point: Point) -> tuple[float, float]:
        return captions.pixel(point.thinking_tokens, point.accuracy)

    ends = sorted(
        ((curve, colour(number)) for number, curve in enumerate(curves) if curve.varies != "budget"),
        key=lambda end: pixel(end[0].points[-1])[1],
    )
    for curve, shade in ends:
        last = curve.points[-1]
        name = last.scored if curve.varies == "k" else curve.name
        write(last, name, shade, ((10, 0), (10, 7), (10, -7), (10, 14), (10, -14)), size=11)
    for number, curve in enumerate(curves):
        if curve.varies == "budget":
            around = ((12, -4), (12, -12), (0, -16), (12, 10), (0, 16))
            write(curve.points[0], curve.name, colour(number), around, size=11)
        for point, label in _merged(curve, pixel):
            apart = curve.varies == "budget" or (curve.varies == "rule" and len(curve.points) > 1)
            if apart or point.policy.count or 1 < point.k < curve.points[-1].k:
                write(point, label, colour(number))


def _merged(curve: MeasuredCurve, pixel: Any) -> Iterator[tuple[Point, str]]:
    """Points with their labels; neighbours on the same spot share one (``16 – auto``)."""
    groups: list[list[Point]] = []
    for point in curve.points:
        if groups and math.dist(pixel(groups[-1][0]), pixel(point)) < 30:
            groups[-1].append(point)
        else:
            groups.append([point])
    for group in groups:
        labels = [curve.label(point) for point in (group[0], group[-1])]
        yield group[0], " – ".join(dict.fromkeys(labels))
