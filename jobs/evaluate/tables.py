"""The sweep in numbers: every policy once, for programs (CSV, JSON) and for people (Markdown)."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jobs.evaluate.comparisons import Comparison
from jobs.evaluate.curves import MeasuredCurve, Point
from jobs.evaluate.together import Together

Row = dict[str, str | int | float | None]

DIGITS = 6
"""Decimals kept in files: well below what a hundred thousand samples can tell apart."""


def measured_points(curves: Iterable[MeasuredCurve]) -> dict[str, list[Point]]:
    """Each point once, by task, in the order of the curves."""
    found: dict[str, dict[str, Point]] = {}
    for curve in curves:
        found.setdefault(curve.task, {}).update({point.name: point for point in curve.points})
    return {task: list(points.values()) for task, points in found.items()}


def row(task: str, point: Point) -> Row:
    """One line of ``table.csv``. Shares are of 1, tokens are means; what is undefined is None.

    ``score`` and ``k`` are there where items have several samples.
    """
    difference = point.difference
    return {
        "task": task,
        "policy": point.policy.name,
        **({"score": point.score, "k": point.k} if point.samples > point.items else {}),
        "items": point.items,
        "samples": point.samples,
        "accuracy": _number(point.accuracy),
        "accuracy_low": _number(point.interval.low),
        "accuracy_high": _number(point.interval.high),
        "bootstrap_low": _number(point.bootstrap.low),
        "bootstrap_high": _number(point.bootstrap.high),
        "thinking_tokens": _number(point.thinking_tokens),
        "injected_tokens": _number(point.injected_tokens),
        "answer_tokens": _number(point.answer_tokens),
        "forced_share": _number(point.forced),
        "context_share": _number(point.context),
        "truncated_share": _number(point.truncated),
        "no_answer_share": _number(point.no_answer),
        "error_share": _number(point.error),
        "difference": _number(difference.value) if difference else None,
        "difference_low": _number(difference.interval.low) if difference else None,
        "difference_high": _number(difference.interval.high) if difference else None,
        "p_value": _number(difference.p_value) if difference else None,
        **(
            {} if point.accepted is None else {"accepted_share": _number(point.accepted), "tries": _number(point.tries)}
        ),
    }


def as_csv(curves: Iterable[MeasuredCurve]) -> str:
    """``table.csv``: a header, then a line per task and policy; empty where undefined.

    Where items have several samples, each policy's line is followed by those of its pass@k and majority@k.
    """
    rows = [
        row(task, each)
        for task, points in measured_points(curves).items()
        for point in points
        if point.score == "accuracy"
        for each in (point, *point.scaled("pass@k"), *point.scaled("majority@k"))
    ]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(dict.fromkeys(name for each in rows for name in each)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_record(curves: Sequence[MeasuredCurve]) -> list[dict[str, Any]]:
    """``curves.json``: each curve with its points, those that it shares with others repeated."""
    return [
        {
            "task": curve.task,
            "curve": curve.name,
            "points": [
                {
                    **dataclasses.asdict(point.policy),
                    "label": curve.label(point),
                    **row(curve.task, point),
                    **({"together": [_at_k(each) for each in point.together]} if point.together else {}),
                }
                for point in curve.points
            ],
        }
        for curve in curves
    ]


def _at_k(together: Together) -> dict[str, float | None]:
    """pass@k and majority@k at one k."""
    found: dict[str, float | None] = {"k": together.k, "items": together.items}
    for name, estimate in {"pass": together.passed, "majority": together.majority}.items():
        found[name] = _number(estimate.value)
        found[f"{name}_low"], found[f"{name}_high"] = _number(estimate.interval.low), _number(estimate.interval.high)
        found[f"{name}_bootstrap_low"] = _number(estimate.bootstrap.low)
        found[f"{name}_bootstrap_high"] = _number(estimate.bootstrap.high)
    return found


def comparison_rows(comparisons: Iterable[Comparison]) -> list[Row]:
    """``comparisons.json`` and ``comparisons.parquet``: `policy` less `reference`; None where undefined."""
    return [
        {
            "task": each.task,
            "policy": each.policy,
            "reference": each.reference,
            "items": each.items,
            "difference": _number(each.difference.value),
            "difference_low": _number(each.difference.interval.low),
            "difference_high": _number(each.difference.interval.high),
            "p_value": _number(each.difference.p_value),
            "t_p_value": _chance(each.t_p_value),
            "p_holm": _chance(each.p_holm),
            "detectable": _number(each.detectable),
            "better": each.better,
            "worse": each.worse,
        }
        for each in comparisons
    ]


def as_markdown(curves: Sequence[MeasuredCurve]) -> str:
    """``table.md``: accuracy in percent, its 95% interval, and what it gains over the natural end.

    Of pass@k and majority@k it has the lines from k = 2: one sample is the natural end's own line.
    """
    sections = []
    for task, measured in measured_points(curves).items():
        points = [point for point in measured if point.score == "accuracy" or point.k > 1]
        columns = {title: cell for title, (cell, shown) in _COLUMNS.items() if any(shown(point) for point in points)}
        lines = [
            "| " + " | ".join(columns) + " |",
            "|" + "|".join([":--", *["--:"] * (len(columns) - 1)]) + "|",
            *("| " + " | ".join(cell(point) for cell in columns.values()) + " |" for point in points),
        ]
        heading = f"{task}: {_asked(points)}. Intervals and differences are at 95%, paired by item."
        sections.append("\n".join([heading, "", *lines]))
    return "\n\n".join(sections) + "\n"


def percent(share: float) -> str:
    """``95.5%``; a dash where the share is undefined."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _asked(points: Sequence[Point]) -> str:
    items = max(point.items for point in points)
    each = max(point.samples for point in points) / items
    return f"{items} items" if each == 1 else f"{items} items × {each:g} samples"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)


def _chance(p_value: float) -> float | None:
    """Small ones keep their size: as many digits as decimals elsewhere."""
    return None if math.isnan(p_value) else float(f"{p_value:.{DIGITS}g}")


def _policy(point: Point) -> str:
    name = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in point.name)
    return name.replace("\\", "\\\\").replace("|", "\\|")


def _interval(point: Point) -> str:
    return f"{100 * point.interval.low:.1f} – {100 * point.interval.high:.1f}"


def _difference(point: Point) -> str:
    if point.difference is None:
        return ""
    low, high = point.difference.interval.low, point.difference.interval.high
    return f"{100 * point.difference.value:+.1f} ({100 * low:+.1f} … {100 * high:+.1f})"


def _p_value(point: Point) -> str:
    if point.difference is None:
        return ""
    return "<0.001" if point.difference.p_value < 0.001 else f"{point.difference.p_value:.3f}"


def _always(point: Point) -> bool:
    return True


_COLUMNS: Mapping[str, tuple[Callable[[Point], str], Callable[[Point], object]]] = {
    "policy": (_policy, _always),
    "thinking tokens": (lambda point: f"{point.thinking_tokens:,.1f}", _always),
    "answer tokens": (lambda point: f"{point.answer_tokens:,.1f}", _always),
    "accuracy": (lambda point: percent(point.accuracy), _always),
    "interval": (_interval, _always),
    "vs natural end": (_difference, lambda point: point.difference),
    "p": (_p_value, lambda point: point.difference),
    "forced": (lambda point: percent(point.forced), _always),
    "out of context": (lambda point: percent(point.context), lambda point: point.context),
    "accepted": (
        lambda point: "" if point.accepted is None else percent(point.accepted),
        lambda point: point.accepted is not None,
    ),
    "tries": (lambda point: f"{point.tries:.1f}" if point.policy.tries else "", lambda point: point.policy.tries),
    "answer cut off": (lambda point: percent(point.truncated), lambda point: point.truncated),
    "no answer": (lambda point: percent(point.no_answer), _always),
    "not graded": (lambda point: percent(point.error), lambda point: point.error),
}
"""What a column says, and the points that make it worth showing."""
