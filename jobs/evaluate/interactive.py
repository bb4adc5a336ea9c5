"""The same picture to look into: one HTML file that needs no network, with every number under the pointer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plotly.graph_objects import Scatter
from plotly.subplots import make_subplots

from jobs.evaluate.curves import MeasuredCurve, Point
from jobs.evaluate.plots import INK, by_task, colour, logarithmic, x_title
from jobs.evaluate.tables import percent

_PAGE = """<!doctype html>
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
            f"<b>{_escaped(point.name)}</b>",
            f"{point.scored} {percent(point.accuracy)} ({percent(low)} – {percent(high)})",
            f"{point.thinking_tokens:,.1f} thinking tokens, {point.injected_tokens:,.1f} of them injected",
            f"{point.answer_tokens:,.1f} answer tokens",
            f"forced {percent(point.forced)}, no answer {percent(point.no_answer)}",
        ]
        if point.difference is not None:
            interval = point.difference.interval
            lines.append(
                f"{100 * point.difference.value:+.1f} points over the natural end "
                f"({100 * interval.low:+.1f} … {100 * interval.high:+.1f}, p = {point.difference.p_value:.2g})"
            )
        return "<br>".join(lines)


def write_html(curves: Sequence[MeasuredCurve], title: str, subtitle: str, path: Path) -> None:
    """A page of its own, with plotly in it: 5 MB."""
    tasks = by_task(curves)
    figure = make_subplots(rows=1, cols=len(tasks), subplot_titles=list(tasks) if len(tasks) > 1 else None)
    for column, members in enumerate(tasks.values(), 1):
        for number, curve in enumerate(members):
            figure.add_trace(_trace(curve, number, show_legend=column == 1), row=1, col=column)
        ticks: dict[str, Any] = {"rangemode": "tozero"}
        if logarithmic(members):
            ticks = {"type": "log", "dtick": math.log10(2)}
        figure.update_xaxes(title=x_title(members), row=1, col=column, **ticks)
    figure.update_xaxes(tickformat=",.6~g", gridcolor="#EAEAEA", showgrid=True, ticks="")
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04], gridcolor="#EAEAEA", showgrid=True, ticks="")
    figure.update_yaxes(title="accuracy", col=1)
    figure.update_layout(
        template="simple_white",
        title={"text": f"<b>{_escaped(title)}</b><br><sup>{_escaped(subtitle)}</sup>", "x": 0.02},
        font={"family": "Inter, Helvetica, Arial, sans-serif", "size": 14, "color": INK},
        hovermode="closest",
        hoverlabel={"bgcolor": "white"},
        margin={"l": 70, "r": 30, "t": 90, "b": 60},
    )
    config = {"displayModeBar": False, "responsive": True}
    chart = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="curves", config=config, default_height="98vh"
    )
    path.write_text(_PAGE.format(title=_escaped(title), chart=chart))


def _trace(curve: MeasuredCurve, number: int, show_legend: bool) -> Any:
    points = curve.points
    own = colour(number)
    return Scatter(
        x=[point.thinking_tokens for point in points],
        y=[point.accuracy for point in points],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [point.interval.high - point.accuracy for point in points],
            "arrayminus": [point.accuracy - point.interval.low for point in points],
            "thickness": 1.2,
            "width": 0,
        },
        mode="lines+markers",
        line={"color": own, "width": 2.5, **({"dash": "dash"} if curve.varies == "k" else {})},
        marker={
            "symbol": _MARKERS[number % len(_MARKERS)] + ("-open" if curve.varies == "k" else ""),
            "size": 9,
            "line": {"color": "white", "width": 1} if curve.varies != "k" else {"width": 2},
        },
        name=_escaped(curve.name),
        legendgroup=curve.name,
        showlegend=show_legend,
        hovertext=[str(_Hover(curve, point)) for point in points],
        hoverinfo="text",
    )


def _escaped(text: str) -> str:
    """Plotly reads a few HTML tags in texts; what users wrote is none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
