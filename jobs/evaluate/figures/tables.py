"""The sweep in numbers: every policy once, for programs (CSV, JSON) and for people (Markdown)."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from jobs.evaluate.stats.at_k import AtK
from jobs.evaluate.stats.comparisons import Comparison
from jobs.evaluate.stats.curves import NATURAL_END, MeasuredCurve, Point, Spread
from jobs.evaluate.stats.intervals import Interval
from jobs.evaluate.stats.statistic import STATISTICS, Statistic, Value

TableRow = dict[str, str | int | float | None]

DIGITS = 6
"""Decimals kept in files: well below what a hundred thousand samples can tell apart."""


def measured_points(curves: Iterable[MeasuredCurve]) -> dict[str, list[Point]]:
    """Each point once, by task, in the order of the curves."""
    by_task: dict[str, dict[str, Point]] = {}
    for curve in curves:
        by_task.setdefault(curve.task, {}).update({point.name: point for point in curve.points})
    return {task: list(points.values()) for task, points in by_task.items()}


def row(task: str, point: Point, compared: Comparison | None = None) -> TableRow:
    """One line of ``table.csv``. Shares are of 1, tokens are means; what is undefined is None.

    ``score`` and ``k`` are there where items have several samples. `compared` is how the point does against the natural
    end among all comparisons of the sweep.
    """
    difference = point.difference
    return {
        "task": task,
        "policy": point.policy.name,
        **({"score": point.score, "k": point.k} if point.samples > point.items else {}),
        "items": point.items,
        "samples": point.samples,
        "accuracy": number(point.accuracy),
        "accuracy_low": number(point.interval.low),
        "accuracy_high": number(point.interval.high),
        **bounded("accuracy_same_items", point.same_items),
        "bootstrap_low": number(point.bootstrap.low),
        "bootstrap_high": number(point.bootstrap.high),
        **({} if point.range is None else _range("accuracy", point.range)),
        **({"drawing_error": number(point.drawing_error)} if point.drawing_error else {}),
        "thinking_tokens": number(point.thinking_tokens),
        **_spread("thinking_tokens", point.thinking_spread),
        "injected_tokens": number(point.injected_tokens),
        "answer_tokens": number(point.answer_tokens),
        **_spread("answer_tokens", point.answer_spread),
        **_statistics(point),
        "difference": number(difference.value) if difference else None,
        "difference_low": number(difference.interval.low) if difference else None,
        "difference_high": number(difference.interval.high) if difference else None,
        **(_range("difference", difference.range) if difference and difference.has_range else {}),
        "p_value": chance(difference.p_value) if difference else None,
        "p_holm": chance(compared.p_holm) if compared else None,
        "detectable": number(compared.detectable) if compared else None,
        **({} if point.accepted is None else {"accepted_share": number(point.accepted), "tries": number(point.tries)}),
    }


def bounded(name: str, interval: Interval | None) -> TableRow:
    """Its ends, as files have them; None where there is none."""
    return {
        f"{name}_low": None if interval is None else number(interval.low),
        f"{name}_high": None if interval is None else number(interval.high),
    }


def _range(name: str, interval: Interval) -> TableRow:
    """What a number is if samples with errors are what makes it least, and most."""
    return {f"{name}_least": number(interval.low), f"{name}_most": number(interval.high)}


def _statistics(point: Point) -> TableRow:
    row: TableRow = {}
    for name, (value, interval) in point.statistics.items():
        row |= {name: number(value)} if interval is None else {name: number(value), **bounded(name, interval)}
    return row


def _spread(name: str, spread: Spread) -> TableRow:
    return {**bounded(name, spread.new_items), **bounded(f"{name}_same_items", spread.same_items)}


def against_natural_end(comparisons: Iterable[Comparison]) -> dict[tuple[str, str], Comparison]:
    """Those that tables show, by task and name of the point."""
    return {(each.task, each.policy): each for each in comparisons if each.reference == NATURAL_END.name}


def as_csv(curves: Iterable[MeasuredCurve], comparisons: Iterable[Comparison]) -> str:
    """``table.csv``: a header, then a line per task and policy; empty where undefined.

    Where items have several samples, each policy's line is followed by those of its votes (pass@k, majority@k).
    """
    compared = against_natural_end(comparisons)
    rows = [
        row(task, each, compared.get((task, each.name)))
        for task, points in measured_points(curves).items()
        for point in points
        if point.vote is None
        for each in (point, *(scaled for vote in point.votes for scaled in point.scaled(vote)))
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
                    **dataclasses.asdict(point.policy.route),
                    **dataclasses.asdict(point.policy.root),
                    "count": point.policy.count,
                    "tries_at_most": point.policy.tries,
                    "label": curve.label(point),
                    **row(curve.task, point),
                    **bounded("accuracy_band", band),
                    **({"at_k": [_at_k(each) for each in point.at_k]} if point.at_k else {}),
                }
                for point, band in zip(curve.points, curve.band, strict=True)
            ],
        }
        for curve in curves
    ]


def _at_k(scores: AtK) -> TableRow:
    """What votes elect at one k."""
    row: TableRow = {"k": scores.k, "items": scores.items}
    for vote, estimate in scores.by.items():
        name = vote.key
        row[name] = number(estimate.value)
        row |= bounded(name, estimate.interval)
        row |= bounded(f"{name}_bootstrap", estimate.bootstrap)
        if estimate.has_range:
            row |= _range(name, estimate.range)
        if scores.errors[vote]:
            row[f"{name}_drawing_error"] = number(scores.errors[vote])
    return row


def as_markdown(curves: Sequence[MeasuredCurve], comparisons: Iterable[Comparison]) -> str:
    """``table.md``: accuracy in percent, its 95% interval, and what it gains over the natural end.

    Of votes (pass@k, majority@k) it has the lines from k = 2: one sample is the natural end's own line. Intervals of
    tokens are those of other items.
    """
    compared = against_natural_end(comparisons)
    sections = []
    for task, measured in measured_points(curves).items():
        points = [point for point in measured if point.vote is None or point.k > 1]
        lines = [_Line(point, compared.get((task, point.name))) for point in points]
        columns = {title: text for title, (text, shown) in _COLUMNS.items() if any(shown(line) for line in lines)}
        columns |= _statistics_columns(points)
        heading = (
            f"{cell(task)}: {_asked(points)}. Intervals and differences are at 95%, for other items of this kind, "
            f"paired by item.{_errors(points)}{_detectable(lines)}"
        )
        cells = [[text(line) for text in columns.values()] for line in lines]
        sections.append(f"{heading}\n\n{markdown(columns, cells)}")
    return "\n\n".join(sections) + "\n"


def markdown(columns: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    titles = list(columns)
    written = [titles, [":--", *["--:"] * (len(titles) - 1)], *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in written)


def number(value: float) -> float | None:
    """As files have it; None where it is undefined."""
    return None if math.isnan(value) else round(value, DIGITS)


def chance(p_value: float) -> float | None:
    """A p-value as files have it: small ones keep their size."""
    return None if math.isnan(p_value) else float(f"{p_value:.{DIGITS}g}")


def p_value(chance: float) -> str:
    """A p-value as people read it; a dash where there is none."""
    if math.isnan(chance):
        return "–"
    return "<0.001" if chance < 0.001 else f"{chance:.3f}"


def percent(share: float) -> str:
    """``95.5%``; a dash where the share is undefined."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _asked(points: Sequence[Point]) -> str:
    items = max(point.items for point in points)
    each = max(point.samples for point in points) / items
    return f"{items} items" if each == 1 else f"{items} items × {each:g} samples"


MARKUP = "\\`*_[]<>|#"
"""What Markdown or HTML may take for more than text."""


def cell(text: str) -> str:
    """`text` on one line, as text: neither a table nor what shows it makes anything else of it."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return "".join(f"\\{letter}" if letter in MARKUP else letter for letter in shown)


@dataclass(frozen=True)
class _Line:
    """A point, and how it does against the natural end."""

    point: Point
    compared: Comparison | None


def _detectable(lines: Iterable[_Line]) -> str:
    """What differences these items can show at all."""
    known = [line.compared.detectable for line in lines if line.compared and not math.isnan(line.compared.detectable)]
    if not known:
        return ""
    return f" A true difference of {100 * median(known):.1f} points would typically be found with a chance of 80%."


def _errors(points: Iterable[Point]) -> str:
    """What is said where samples could not be graded."""
    if not any(point.error for point in points):
        return ""
    return (
        " Accuracy is of the samples that could be graded; intervals and p hold whatever the others were; range is "
        "from all of those wrong to all right."
    )


def _tokens(value: float, interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{value:,.1f}"
    return f"{value:,.1f} ({interval.low:,.1f} – {interval.high:,.1f})"


def _shown_range(line: _Line) -> str:
    interval = line.point.range
    return "" if interval is None else f"{100 * interval.low:.1f} – {100 * interval.high:.1f}"


def _interval(line: _Line) -> str:
    return f"{100 * line.point.interval.low:.1f} – {100 * line.point.interval.high:.1f}"


def _difference(line: _Line) -> str:
    difference = line.point.difference
    if difference is None:
        return ""
    low, high = difference.interval.low, difference.interval.high
    return f"{100 * difference.value:+.1f} ({100 * low:+.1f} … {100 * high:+.1f})"


def _p_value(line: _Line) -> str:
    return "" if line.point.difference is None else p_value(line.point.difference.p_value)


def _p_holm(line: _Line) -> str:
    return "" if line.compared is None else p_value(line.compared.p_holm)


def _always(line: _Line) -> bool:
    return True


_COLUMNS: Mapping[str, tuple[Callable[[_Line], str], Callable[[_Line], object]]] = {
    "policy": (lambda line: cell(line.point.name), _always),
    "thinking tokens": (
        lambda line: _tokens(line.point.thinking_tokens, line.point.thinking_spread.new_items),
        _always,
    ),
    "answer tokens": (lambda line: _tokens(line.point.answer_tokens, line.point.answer_spread.new_items), _always),
    "accuracy": (lambda line: percent(line.point.accuracy), _always),
    "interval": (_interval, _always),
    "range": (_shown_range, lambda line: line.point.range),
    "vs natural end": (_difference, lambda line: line.point.difference),
    "p": (_p_value, lambda line: line.point.difference),
    "p, corrected": (_p_holm, lambda line: line.compared),
    "accepted": (
        lambda line: "" if line.point.accepted is None else percent(line.point.accepted),
        lambda line: line.point.accepted is not None,
    ),
    "tries": (
        lambda line: f"{line.point.tries:.1f}" if line.point.policy.tries else "",
        lambda line: line.point.policy.tries,
    ),
}
"""What a column says, and the lines that make it worth showing; statistics follow."""


def _statistics_columns(points: Sequence[Point]) -> dict[str, Callable[[_Line], str]]:
    """What the columns of the statistics say that are worth showing."""
    columns: dict[str, Callable[[_Line], str]] = {}
    for name, statistic in STATISTICS.items():
        values = [point.statistics[name].value for point in points if name in point.statistics]
        if statistic.is_shown(values):
            columns[cell(statistic.title)] = partial(_statistic, name, statistic)
    return columns


def _statistic(name: str, statistic: Statistic, line: _Line) -> str:
    value, interval = line.point.statistics.get(name, Value(math.nan))
    return statistic.shown(value) if interval is None else statistic.shown(value, interval.low, interval.high)
