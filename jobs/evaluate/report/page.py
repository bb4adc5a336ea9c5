"""The page: one HTML file that needs no network, to open from a disk, mail, or look at in MLflow.

What models and users wrote is hostile until shown otherwise: see :mod:`orchestrator.job.html`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from jobs.evaluate.report.charts import QUESTIONS, WIDTHS, chart
from jobs.evaluate.report.frontier_chart import AXES, frontier_chart
from jobs.evaluate.report.listings import frontier_listing, listings
from jobs.evaluate.report.results import (
    CurvePoint,
    FinishedSweep,
    count,
    difference,
    p_value,
    percent,
    range_text,
    statistic_columns,
    tokens,
)
from jobs.evaluate.report.summary import NATURAL_END, Cost, about, cost, facts, subtitle, tiles
from jobs.evaluate.report.viewer import TaskData
from orchestrator.job.html import own_file, security_policy, template
from orchestrator.job.record import ReportRequest

HERE = "jobs.evaluate.report"


@dataclass(frozen=True)
class BarPart:
    """A stretch of a stacked bar, in percent of its width."""

    kind: str
    start: float
    width: float
    text: str


def render(sweeps: Sequence[FinishedSweep], data: Sequence[TaskData], request: ReportRequest) -> str:
    """The page as text."""
    css = own_file(HERE, "page.css")
    script = "".join(own_file(HERE, name) for name in ("nodes.js", "searches.js", "page.js"))
    several = len(data) > 1
    titles = {(each.sweep, each.task): f"{each.sweep} · {each.task}" if several else each.task for each in data}
    return template(HERE, "page.html.j2").render(
        title=request.title,
        subtitle=subtitle(sweeps),
        policy=security_policy(css, script),
        questions=QUESTIONS,
        css=Markup(css),
        script=Markup(script),
        sweeps=[
            {
                "name": sweep.name,
                "tasks": [
                    _task(sweep, each, titles[sweep.name, each.task]) for each in data if each.sweep == sweep.name
                ],
                "cost": _cost(cost(sweep)),
                "facts": facts(sweep),
                "configuration": sweep.config.model_dump_json(indent=2, exclude_unset=True),
            }
            for sweep in sweeps
        ],
        data=[
            {"key": each.key, "title": titles[each.sweep, each.task], "sweep": each.sweep, "task": each.task}
            | {"index": each.index, "trees": each.trees}
            for each in data
        ],
        selection=selection(data, request),
        command=request.command,
    )


def selection(data: Sequence[TaskData], request: ReportRequest) -> str:
    """What of the samples is in the page, and how to have another part of them."""
    shown, traced = (sum(sizes) for sizes in zip(*((len(each.trees), each.traced) for each in data), strict=True))
    all_samples = sum(each.samples for each in data)
    if traced == all_samples:
        return f"All {all_samples:,} samples are here, each with the whole tree of its traces."
    if shown == all_samples:
        return f"All {all_samples:,} samples are here with their answers; of {traced:,} the traces are known too."
    return (
        f"All {all_samples:,} samples are here with their verdicts, and {traced:,} of them with the whole tree of "
        f"their traces, as many as {request.megabytes:g} MB hold: each item's first sample before any second, those "
        f"on which policies disagree before the rest. For others: {request.command} --item ID, "
        f"or --megabytes {2 * request.megabytes:g}."
    )


def _task(sweep: FinishedSweep, data: TaskData, title: str) -> dict[str, Any]:
    curves = sweep.of_task(data.task)
    points = sweep.points(data.task)
    statistics = statistic_columns(points, endings=False)
    span = _span(points)
    corrected = {
        each["policy"]: each["p_holm"]
        for each in sweep.comparisons
        if (each["task"], each["reference"]) == (data.task, NATURAL_END)
    }
    return {
        "key": f"{data.key}-results",
        "title": title,
        "about": about(sweep, data.task),
        "tiles": tiles(sweep, data),
        "charts": [chart(curves, width) for width in WIDTHS],
        "rows": [_row(point, corrected.get(str(point["policy"])), statistics.values()) for point in points],
        "statistics": list(statistics),
        "resampled": any(point.get("accuracy_same_items_low") is not None for point in points),
        "uncertain": any(point["error_share"] for point in points),
        "span": f"{100 * span:g}",
        "scale": lambda value: round(80 + 78 * max(-1.0, min(1.0, value / span)), 1),
        "ledger": [_ledger(point) for point in points],
        "listings": list(listings(sweep, data.task)),
        "frontiers": [
            {
                "title": AXES[each["cost"]],
                "sentence": each["sentence"],
                "charts": [frontier_chart(each, width) for width in WIDTHS],
                "listing": frontier_listing(each),
            }
            for each in sweep.frontiers
            if each["task"] == data.task and each["cost"] in AXES
        ],
    }


def _span(points: Sequence[CurvePoint]) -> float:
    """The largest difference that is drawn, as a round share."""
    ends = [
        abs(point[f"difference_{end}"])
        for point in points
        for end in ("low", "high")
        if point["difference"] is not None
    ]
    return max(0.05, math.ceil(20 * max(ends, default=0.05)) / 20)


def _row(
    point: CurvePoint, corrected: float | None, statistics: Iterable[Callable[[CurvePoint], str]]
) -> dict[str, Any]:
    low, high = point["difference_low"], point["difference_high"]
    known = point["difference"] is not None
    return {
        "policy": point["policy"],
        "thinking": tokens(point, "thinking_tokens"),
        "injected": f"{point['injected_tokens']:,.1f}",
        "answers": tokens(point, "answer_tokens"),
        "accuracy": percent(point["accuracy"]),
        "interval": f"{percent(point['accuracy_low'])} – {percent(point['accuracy_high'])}",
        "same_items": _interval(point, "accuracy_same_items"),
        "range": range_text(point),
        "difference": point["difference"],
        "difference_low": low,
        "difference_high": high,
        "difference_text": difference(point),
        "side": "none" if not known or low <= 0 <= high else "up" if low > 0 else "down",
        "p": p_value(point["p_value"]),
        "corrected": p_value(corrected),
        "statistics": [shown(point) for shown in statistics],
    }


def _interval(point: CurvePoint, name: str) -> str:
    low, high = point.get(f"{name}_low"), point.get(f"{name}_high")
    return "" if low is None else f"{percent(low)} – {percent(high)}"


def _ledger(point: CurvePoint) -> dict[str, Any]:
    forced, context, silent = (point[f"{name}_share"] or 0.0 for name in ("forced", "context", "no_answer"))
    error = point["error_share"] or 0.0
    correct = (point["accuracy"] or 0.0) * (1 - error)
    accepted = point.get("accepted_share")
    natural = max(0.0, 1 - forced - context) if accepted is None else accepted
    thinking = {"natural": natural, "forced": forced, "context": context}
    verdicts = {"correct": correct, "wrong": max(0.0, 1 - correct - silent - error), "silent": silent, "error": error}
    words = {
        "natural": "natural end",
        "forced": "cut by the budget",
        "context": "out of context",
        "refused": "rejected",
        "silent": "no answer",
        "error": "not graded",
    }
    return {
        "policy": point["policy"],
        "thinking": list(_parts(thinking | {"refused": max(0.0, 1 - sum(thinking.values()))}, words)),
        "verdicts": list(_parts(verdicts, words)),
        "forced": percent(point["forced_share"]),
        "no_answer": percent(point["no_answer_share"]),
        "truncated": percent(point["truncated_share"]),
    }


def _parts(shares: Mapping[str, float], words: Mapping[str, str]) -> Iterator[BarPart]:
    start = 0.0
    for kind, share in shares.items():
        if share > 1e-6:
            yield BarPart(
                kind, round(100 * start, 3), round(100 * share, 3), f"{words.get(kind, kind)} {percent(share)}"
            )
        start += share


def _cost(spent: Cost) -> dict[str, Any]:
    most = max(spent.alone, spent.decoded, 1)
    bars = [("one pass, as decoded", "ours", spent.decoded), ("each policy alone", "theirs", spent.alone)]
    return {
        "bars": [
            {"what": what, "kind": kind, "width": round(100 * tokens / most, 2), "text": f"{count(tokens)} tokens"}
            for what, kind, tokens in bars
        ],
        "sentence": spent.sentence,
    }
