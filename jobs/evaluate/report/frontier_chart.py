"""The frontier as a picture: every option by what it costs, and the line through those that are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jobs.evaluate.report.charts import (
    NARROW,
    Bars,
    Chart,
    Label,
    Labels,
    Line,
    PointMark,
    Scale,
    Tick,
    path_of,
    ticks,
    x_scale,
)
from jobs.evaluate.report.results import Record, count, percent, points_of_100

AXES = {
    "tokens": "tokens decoded for a question",
    "latency": "tokens decoded one after the other",
}
"""Kinds of cost that are drawn, with the titles of their axes."""

_OPTIONS, _FRONTIER, _BOUNDS = 0, 1, 7
"""Numbers of the lines: their colours and markers."""


def frontier_chart(frontier: Record, width: int) -> Chart:
    """One of ``frontier.json``, as wide as `width` pixels."""
    narrow = width < NARROW
    height = 350 if narrow else 440
    left, top, bottom = (44.0, 32.0, height - 50.0) if narrow else (58.0, 34.0, height - 54.0)
    right = width - 14.0
    options, bounds = frontier["options"], frontier["bounds"]
    x = x_scale([float(each["cost"]) for each in (*options, *bounds)] or [0.0, 1.0], left, right)
    y = Scale(0, 1, bottom, top)
    on = [each for each in options if each["on_frontier"]]
    marks = tuple(_mark(each, x, y, True) for each in on)
    steps = [(mark.x, mark.y) for mark in marks]
    corners = [place for here, there in pairwise(steps) for place in (here, (there[0], here[1]))]
    line = [*corners, *steps[-1:], *([(right, steps[-1][1])] if steps else [])]
    others = tuple(_mark(each, x, y, False) for each in options if not each["on_frontier"])
    lines = (
        Line("options", _OPTIONS, "", {}, False, others),
        *([Line("whoever knows the answer", _BOUNDS, "", {}, True, tuple(_mark(each, x, y, False) for each in bounds))]
          if bounds else []),
        Line("the frontier", _FRONTIER, path_of(line), {}, False, marks),
    )  # fmt: skip
    title = AXES[frontier["cost"]] + (" (log scale)" if x.log else "")
    return Chart(
        *(width, height, left, right, top, bottom, title),
        tuple(Tick(x(value), count(value)) for value in ticks(x, 5 if narrow else 10)),
        tuple(Tick(y(tenth / 10), f"{10 * tenth}%") for tenth in range(0, 11, 2)),
        *(lines, ()),
        () if narrow else _labels(on, marks, lines, (left, right, top, bottom)),
        ("new",),
    )


def _labels(
    on: Sequence[Record], marks: Sequence[PointMark], lines: Sequence[Line], box: tuple[float, float, float, float]
) -> tuple[Label, ...]:
    texts = Labels([line for line in lines if line.number == _FRONTIER], *box)
    return tuple(texts.beside(mark, str(each["name"]), _FRONTIER) for each, mark in zip(on, marks, strict=True))


def _mark(option: Record, x: Scale, y: Scale, on: bool) -> PointMark:
    place = x(float(option["cost"])), y(float(option["accuracy"]))
    bars = {}
    if on:
        left, right = (option[f"cost_{end}"] or option["cost"] for end in ("low", "high"))
        ends = x(float(left)), min(x(float(right)), x.end)
        bars["new"] = Bars(y(option["accuracy_high"]), y(option["accuracy_low"]), *ends)
    return PointMark(*place, _tip(option), bars, None)


def _tip(option: Record) -> str:
    lines = [
        str(option["words"]),
        f"accuracy {percent(option['accuracy'])} ({percent(option['accuracy_low'])} – "
        f"{percent(option['accuracy_high'])})",
        f"{count(option['cost'])} tokens a question",
    ]
    if "gain" in option:
        interval = f"{points_of_100(option['gain_low'])} … {points_of_100(option['gain_high'])}"
        lines.append(f"{points_of_100(option['gain'])} points over the one before ({interval})")
    return "\n".join(lines)
