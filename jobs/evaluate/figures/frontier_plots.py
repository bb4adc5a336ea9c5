"""The frontier to look into: one HTML file that needs no network, with every option under the pointer.

Small marks are options, rings what someone could have who knows the right answers, and the line is the frontier: what
can be had for so much. A button for each kind of cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from plotly.graph_objects import Figure, Scatter

from jobs.evaluate.figures.frontier_tables import amount, gained, sentence
from jobs.evaluate.figures.interactive import PAGE, escaped
from jobs.evaluate.figures.plots import COLOURS, INK, LOG_FROM
from jobs.evaluate.figures.tables import percent
from jobs.evaluate.stats.frontier import Frontier, Priced
from jobs.evaluate.stats.options import LATENCY, TOKENS, USD

TITLES: Mapping[str, str] = {
    TOKENS: "tokens decoded for a question",
    LATENCY: "tokens decoded one after the other",
    USD: "$ a question",
}
_BUTTONS = {TOKENS: "tokens", LATENCY: "latency", USD: "dollars"}
_FAINT = "#9AA0A6"


def write_html(drawn: Sequence[tuple[str, Sequence[Frontier]]], path: Path) -> None:
    """A page of its own, with plotly in it; each of `drawn` is a title and its frontiers over several costs."""
    charts = [
        _figure(title, frontiers).to_html(
            full_html=False,
            include_plotlyjs=number == 0,
            div_id=f"frontier-{number}",
            config={"displayModeBar": False, "responsive": True},
            default_height="98vh",
        )
        for number, (title, frontiers) in enumerate(drawn)
    ]
    titles = ", ".join(title for title, _ in drawn)
    path.write_text(PAGE.format(title=escaped(f"Frontier: {titles}"), chart="\n".join(charts)))


def _figure(title: str, frontiers: Sequence[Frontier]) -> Any:
    figure = Figure()
    traces: list[int] = []
    """How many each frontier has."""
    for place, frontier in enumerate(frontiers):
        of_frontier = list(_traces(frontier))
        for trace in of_frontier:
            figure.add_trace(trace.update(visible=place == 0))
        traces.append(len(of_frontier))
    buttons = []
    for place, frontier in enumerate(frontiers):
        visible = [number == place for number, count in enumerate(traces) for _ in range(count)]
        layout = {"xaxis": _axis(frontier), "title.text": _title(title, frontier)}
        buttons.append({"label": _BUTTONS[frontier.axis], "method": "update", "args": [{"visible": visible}, layout]})
    figure.update_layout(
        template="simple_white",
        title={"text": _title(title, frontiers[0]), "x": 0.02},
        font={"family": "Inter, Helvetica, Arial, sans-serif", "size": 14, "color": INK},
        hovermode="closest",
        hoverlabel={"bgcolor": "white"},
        margin={"l": 70, "r": 30, "t": 120, "b": 60},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        xaxis=_axis(frontiers[0]),
        yaxis={"tickformat": ".0%", "range": [0, 1.04], "gridcolor": "#EAEAEA", "showgrid": True, "title": "accuracy"},
        updatemenus=[
            {"type": "buttons", "direction": "left", "buttons": buttons}
            | {"x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
        ],
    )
    return figure


def _axis(frontier: Frontier) -> dict[str, Any]:
    costs = [each.cost for each in (*frontier.options, *frontier.bounds)]
    log = bool(costs) and min(costs) > 0 and max(costs) / min(costs) >= LOG_FROM
    kind: dict[str, Any] = {"type": "log"} if log else {"type": "linear", "rangemode": "tozero"}
    title = {"text": TITLES[frontier.axis] + (", log scale" if log else "")}
    return {**kind, "title": title, "tickformat": ",.6~g", "gridcolor": "#EAEAEA", "showgrid": True, "ticks": ""}


def _title(title: str, frontier: Frontier) -> str:
    lines = wrap(sentence(frontier), 150, max_lines=3, placeholder=" …")
    return "<br>".join([f"<b>{escaped(title)}: the frontier</b>", *(f"<sup>{escaped(line)}</sup>" for line in lines)])


def _traces(frontier: Frontier) -> list[Any]:
    on = set(frontier.on)
    others = [each for place, each in enumerate(frontier.options) if place not in on]
    points = frontier.points
    last = max((each.cost for each in frontier.options), default=0.0)
    x, y = [each.cost for each in points], [each.accuracy for each in points]
    return [
        _marks(others, "options", {"color": COLOURS[0], "size": 7, "opacity": 0.45}, frontier.axis),
        _marks(
            frontier.bounds,
            "whoever knows the answer",
            {"symbol": "circle-open", "color": _FAINT, "size": 8, "line": {"width": 1.2}},
            frontier.axis,
        ),
        Scatter(
            x=[*x, last],
            y=[*y, *y[-1:]],
            mode="lines",
            line={"shape": "hv", "color": COLOURS[1], "width": 2.5},
            name="the frontier",
            legendgroup="frontier",
            hoverinfo="skip",
        ),
        Scatter(
            x=x,
            y=y,
            mode="markers+text",
            marker={"color": COLOURS[1], "size": 12, "symbol": "diamond", "line": {"color": "white", "width": 1}},
            text=[escaped(each.option.name) for each in points],
            textposition="bottom right",
            error_y=_arms(y, [(each.interval.low, each.interval.high) for each in points]),
            error_x=_arms(x, [(each.cost_interval.low, each.cost_interval.high) for each in points]),
            legendgroup="frontier",
            showlegend=False,
            hovertext=[_hover(each, frontier.axis) for each in points],
            hoverinfo="text",
        ),
    ]


def _marks(options: Sequence[Priced], name: str, marker: dict[str, Any], axis: str) -> Any:
    return Scatter(
        x=[each.cost for each in options],
        y=[each.accuracy for each in options],
        mode="markers",
        marker=marker,
        name=name,
        hovertext=[_hover(each, axis) for each in options],
        hoverinfo="text",
    )


def _hover(each: Priced, axis: str) -> str:
    gain = gained(each)
    lines = [
        f"<b>{escaped(each.option.words)}</b>",
        f"accuracy {percent(each.accuracy)} ({percent(each.interval.low)} – {percent(each.interval.high)})",
        f"{amount(each.cost, axis)} {TITLES[axis].removeprefix('$ ')}",
        *([f"{gain} points over the one before"] if gain else []),
    ]
    return "<br>".join(lines)


def _arms(values: Sequence[float], ends: Sequence[tuple[float, float]]) -> dict[str, Any]:
    above = [high - value for value, (_, high) in zip(values, ends, strict=True)]
    below = [value - low for value, (low, _) in zip(values, ends, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.4, "width": 0}
