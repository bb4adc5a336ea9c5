"""What lies between points, in numbers: comparisons, methods, and published values beside ours.

Rows are for programs (``comparisons.json``, ``methods.json``, ``published.json``), Markdown for people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from jobs.evaluate.figures.tables import TableRow, cell, chance, markdown, number, percent
from jobs.evaluate.stats.agreement import Beside
from jobs.evaluate.stats.comparisons import Comparison
from jobs.evaluate.stats.intervals import Interval
from jobs.evaluate.stats.s1_metrics import Measured, Method


def comparison_rows(comparisons: Iterable[Comparison]) -> list[TableRow]:
    """`policy` less `reference`, shares of 1; None where undefined. ``comparisons.parquet`` has the same columns."""
    return [
        {
            "task": each.task,
            "policy": each.policy,
            "reference": each.reference,
            "items": each.items,
            "difference": number(each.difference.value),
            "difference_low": number(each.difference.interval.low),
            "difference_high": number(each.difference.interval.high),
            "difference_least": number(each.difference.range.low),
            "difference_most": number(each.difference.range.high),
            "p_value": chance(each.difference.p_value),
            "t_p_value": chance(each.t_p_value),
            "p_holm": chance(each.p_holm),
            "detectable": number(each.detectable),
            "better": each.better,
            "worse": each.worse,
        }
        for each in comparisons
    ]


def method_rows(methods: Iterable[Method]) -> list[dict[str, object]]:
    """Control and Performance are shares of 1; Scaling is in points per 1,000 tokens, as printed per doubling."""
    return [
        {
            "task": each.task,
            "method": each.name,
            "policies": list(each.policies),
            **_bounded("control", each.control),
            **_bounded("scaling_per_1000_tokens", each.scaling),
            **_bounded("scaling_per_doubling", each.scaling_published),
            **_bounded("performance", each.performance),
            "performance_held_out": number(each.performance_held_out),
        }
        for each in methods
    ]


def beside_rows(beside: Iterable[Beside]) -> list[TableRow]:
    """In percent, and Scaling in points per doubling."""
    return [
        {
            "task": each.task,
            "name": each.name,
            "quantity": each.quantity,
            "ours": number(each.ours),
            "published": each.published,
            "difference_low": number(each.difference.low),
            "difference_high": number(each.difference.high),
            "our_tokens": None if each.our_tokens is None else number(each.our_tokens),
            "our_tokens_with_scorer": (
                None if each.our_tokens_with_scorer is None else number(each.our_tokens_with_scorer)
            ),
            "published_tokens": each.published_tokens,
            "verdict": each.verdict,
        }
        for each in beside
    ]


def methods_markdown(methods: Sequence[Method]) -> str:
    """A table per task; empty where no method has two runs."""
    columns = (
        *("method", "runs", "Control", "Scaling, points per 1,000 tokens"),
        *("Scaling as published, points per doubling", "Performance", "held out, and its interval"),
    )
    sections = []
    for task in dict.fromkeys(each.task for each in methods):
        lines = [
            (
                *(cell(each.name), str(len(each.policies)), percent(each.control.value)),
                *(_with_interval(each.scaling), _with_interval(each.scaling_published)),
                percent(each.performance.value),
                f"{percent(each.performance_held_out)} {_interval(each.performance.interval, 100)}",
            )
            for each in methods
            if each.task == task
        ]
        sections.append(
            f"{cell(task)}: ways of spending more thinking, as the s1 paper measures them. Performance is the largest "
            "accuracy: luck was chosen too. Held out, the best run on half of the items is scored on the others; the "
            "interval is that of the best run's true accuracy.\n"
        )
        sections.append(markdown(columns, lines) + "\n")
    return "\n".join(sections)


def beside_markdown(beside: Sequence[Beside], source: str) -> str:
    """One table; empty where the sweep has none of the published values."""
    if not beside:
        return ""
    tokens = ("thinking tokens, ours", "all, the scorer's too", "tokens, published")
    columns = ("", "ours", "published", "difference", *tokens, "")
    lines = [
        (
            cell(f"{each.task}: {each.name}{'' if each.quantity == 'accuracy' else f', {each.quantity}'}"),
            _one_decimal(each.ours),
            _one_decimal(each.published),
            f"{each.ours - each.published:+.1f} {_interval(each.difference, 1)}",
            *(
                "" if count is None else f"{count:,.0f}"
                for count in (each.our_tokens, each.our_tokens_with_scorer, each.published_tokens)
            ),
            each.verdict,
        )
        for each in beside
    ]
    heading = f"Beside published values, in percent, Scaling in points per doubling. Source: {cell(source)}."
    return f"{heading}\n\n{markdown(columns, lines)}\n"


def _bounded(name: str, measured: Measured) -> TableRow:
    low, high = measured.interval.low, measured.interval.high
    return {name: number(measured.value), f"{name}_low": number(low), f"{name}_high": number(high)}


def _with_interval(measured: Measured) -> str:
    if math.isnan(measured.value):
        return "–"
    return f"{measured.value:+.1f} {_interval(measured.interval, 1)}"


def _interval(interval: Interval, scale: float) -> str:
    return "" if math.isnan(interval.low) else f"({scale * interval.low:.1f} … {scale * interval.high:.1f})"


def _one_decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
