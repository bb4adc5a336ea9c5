"""The same picture to look into: one HTML file that needs no network, with every number under the pointer.

Its buttons choose what the intervals are of: other items of this kind, these items sampled again (where items have
several samples), or whole curves at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plotly.graph_objects import Scatter
from plotly.subplots import make_subplots

from jobs.evaluate.figures.plots import INK, by_task, colour, logarithmic, ranges_explained, x_title
from jobs.evaluate.figures.tables import percent
from jobs.evaluate.stats.curves import MeasuredCurve, Point
from jobs.evaluate.stats.intervals import Interval
from jobs.evaluate.stats.statistic import STATISTICS

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body style="margin: 0">{chart}</body>
</html>
"""
_MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down")


@dataclass(frozen=True)
class _Hover:
    """What a point says under the pointer."""

    curve: MeasuredCurve
    point: Point

    def __str__(self) -> str:
        point = self.point
        low, high = point.interval.low, point.interval.high
        lines = [
            f"<b>{escaped(point.name)}</b>",
            f"{point.scored} {percent(point.accuracy)} ({percent(low)} – {percent(high)})",
            *([] if point.range is None else [_range_text(point.range)]),
            *([] if point.same_items is None else [f"these items, sampled again: {_percents(point.same_items)}"]),
            f"{_tokens(point.thinking_tokens, point.thinking_spread.new_items)} thinking tokens, "
            f"{point.injected_tokens:,.1f} of them injected",
            f"{_tokens(point.answer_tokens, point.answer_spread.new_items)} answer tokens",
            ", ".join(
                f"{STATISTICS[name].title} {STATISTICS[name].shown(point.statistics[name].value)}"
                for name in ("forced_share", "no_answer_share")
            ),
        ]
        if point.difference is not None:
            interval = point.difference.interval
            lines.append(
                f"{100 * point.difference.value:+.1f} points over the natural end "
                f"({100 * interval.low:+.1f} … {100 * interval.high:+.1f}, p = {point.difference.p_value:.2g})"
            )
        return "<br>".join(lines)


def _percents(interval: Interval) -> str:
    return f"{percent(interval.low)} – {percent(interval.high)}"


def _range_text(interval: Interval) -> str:
    return f"with those not graded wrong … right: {_percents(interval)}"


def _tokens(value: float, interval: Interval) -> str:
    return f"{value:,.1f} ({interval.low:,.1f} – {interval.high:,.1f})"


def write_html(curves: Sequence[MeasuredCurve], title: str, subtitle: str, path: Path) -> None:
    """A page of its own, with plotly in it: 5 MB."""
    below = [line for line in (subtitle, ranges_explained(curves)) if line]
    tasks = by_task(curves)
    figure = make_subplots(rows=1, cols=len(tasks), subplot_titles=list(tasks) if len(tasks) > 1 else None)
    for column, members in enumerate(tasks.values(), 1):
        for number, curve in enumerate(members):
            figure.add_trace(_trace(curve, number, show_legend=column == 1), row=1, col=column)
        ticks: dict[str, Any] = {"rangemode": "tozero"}
        if logarithmic(members):
            ticks = {"type": "log", "dtick": math.log10(2)}
        figure.update_xaxes(title=x_title(members), row=1, col=column, **ticks)
    for column, members in enumerate(tasks.values(), 1):
        for number, curve in enumerate(members):
            if any(point.range for point in curve.points):
                figure.add_trace(_ranges(curve, number), row=1, col=column)
    figure.update_xaxes(tickformat=",.6~g", gridcolor="#EAEAEA", showgrid=True, ticks="")
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04], gridcolor="#EAEAEA", showgrid=True, ticks="")
    figure.update_yaxes(title="accuracy", col=1)
    figure.update_layout(
        updatemenus=[_buttons([curve for members in tasks.values() for curve in members])],
        template="simple_white",
        title={
            "text": "<br>".join([f"<b>{escaped(title)}</b>", *(f"<sup>{escaped(line)}</sup>" for line in below)]),
            "x": 0.02,
        },
        font={"family": "Inter, Helvetica, Arial, sans-serif", "size": 14, "color": INK},
        hovermode="closest",
        hoverlabel={"bgcolor": "white"},
        margin={"l": 70, "r": 30, "t": 110, "b": 60},
    )
    config = {"displayModeBar": False, "responsive": True}
    chart = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="curves", config=config, default_height="98vh"
    )
    path.write_text(PAGE.format(title=escaped(title), chart=chart))


def _trace(curve: MeasuredCurve, number: int, show_legend: bool) -> Any:
    points = curve.points
    shade = colour(number)
    return Scatter(
        x=[point.thinking_tokens for point in points],
        y=[point.accuracy for point in points],
        **_bars(curve, "new items"),
        mode="lines+markers",
        line={"color": shade, "width": 2.5, **({"dash": "dash"} if curve.varies == "k" else {})},
        marker={
            "symbol": _MARKERS[number % len(_MARKERS)] + ("-open" if curve.varies == "k" else ""),
            "size": 9,
            "line": {"color": "white", "width": 1} if curve.varies != "k" else {"width": 2},
        },
        name=escaped(curve.name),
        legendgroup=curve.name,
        showlegend=show_legend,
        hovertext=[str(_Hover(curve, point)) for point in points],
        hoverinfo="text",
    )


def _ranges(curve: MeasuredCurve, number: int) -> Any:
    """Capped bars from all wrong to all right, at points whose samples could not all be graded."""
    points = [point for point in curve.points if point.range is not None]
    values = [point.accuracy for point in points]
    return Scatter(
        x=[point.thinking_tokens for point in points],
        y=values,
        error_y=_arms(values, [point.range for point in points], 2) | {"width": 5},
        mode="markers",
        marker={"color": colour(number), "size": 1},
        legendgroup=curve.name,
        showlegend=False,
        hoverinfo="skip",
    )


QUESTIONS = {
    "new items": "other items of this kind",
    "same items": "these items, sampled again",
    "band": "other items, whole curves at once",
}
"""What intervals can be asked to say."""


def _bars(curve: MeasuredCurve, question: str) -> dict[str, Any]:
    """The error bars of a trace, up and across."""
    points = curve.points
    up: list[Interval | None] = [point.interval for point in points]
    across: list[Interval | None] = [point.thinking_spread.new_items for point in points]
    if question == "band":
        up = list(curve.band)
    elif question == "same items":
        up = [point.same_items for point in points]
        across = [point.thinking_spread.same_items for point in points]
    return {
        "error_y": _arms([point.accuracy for point in points], up, 1.4),
        "error_x": _arms([point.thinking_tokens for point in points], across, 1.0),
    }


def _arms(values: Sequence[float], intervals: Sequence[Interval | None], thickness: float) -> dict[str, Any]:
    """None of a point that has no interval."""
    pairs = list(zip(values, intervals, strict=True))
    above = [0.0 if each is None else each.high - value for value, each in pairs]
    below = [0.0 if each is None else value - each.low for value, each in pairs]
    arms = {"array": above, "arrayminus": below}
    return {"type": "data", "symmetric": False, **arms, "thickness": thickness, "width": 0}


def _buttons(curves: Sequence[MeasuredCurve]) -> dict[str, Any]:
    """That choose what all bars say."""
    points = [point for curve in curves for point in curve.points]
    offered = [each for each in QUESTIONS if each != "same items" or any(point.same_items for point in points)]
    buttons = []
    for question in offered:
        bars = [_bars(curve, question) for curve in curves]
        changed = {name: [each[name] for each in bars] for name in ("error_y", "error_x")}
        buttons.append({"label": QUESTIONS[question], "method": "restyle", "args": [changed, list(range(len(curves)))]})
    place = {"x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "direction": "left", "type": "buttons"}
    return {**place, "buttons": buttons, "pad": {"r": 0, "t": 0}, "font": {"size": 12}}


def escaped(text: str) -> str:
    """Plotly reads a few HTML tags in texts; what users wrote is none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
