"""The frontier for people and programs: a table and a sentence for each kind of cost.

``frontier.json`` has every option; the table has those on the frontier, and the sentence says what to do for how much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from jobs.evaluate.figures.tables import bounded, cell, markdown, number, percent
from jobs.evaluate.stats.frontier import Frontier, Priced
from jobs.evaluate.stats.options import LATENCY, TOKENS, USD

UNITS = {TOKENS: "tokens", LATENCY: "tokens one after the other", USD: "$"}
"""What each cost is counted in, of one question."""


def records(frontiers: Iterable[Frontier]) -> list[dict[str, Any]]:
    """``frontier.json``: shares are of 1, costs of one question; what is undefined is None."""
    return [
        {
            "task": each.task,
            "cost": each.axis,
            "items": each.items,
            "sentence": sentence(each),
            "options": [_record(option, place in each.on) for place, option in enumerate(each.options)],
            "bounds": [_record(option, False) for option in each.bounds],
        }
        for each in frontiers
    ]


def _record(priced: Priced, on: bool) -> dict[str, Any]:
    option, gain = priced.option, priced.gain
    return {
        "policy": option.policy.name,
        "vote": None if option.vote is None else option.vote.key,
        "k": option.k,
        "name": option.name,
        "words": option.words,
        "cost": number(priced.cost),
        **bounded("cost", priced.cost_interval),
        "accuracy": number(priced.accuracy),
        **bounded("accuracy", priced.interval),
        "on_frontier": on,
        **({"held_out": number(priced.held_out)} if on else {}),
        **({} if gain is None else {"gain": number(gain.value), **bounded("gain", gain.interval)}),
    }


def as_markdown(frontiers: Sequence[Frontier], budgets: Sequence[float] = ()) -> str:
    """A table and a sentence for each kind of cost. `budgets`, in tokens, are what the sentence on tokens is about."""
    sections = []
    several = len({option.option.sweep for each in frontiers for option in each.options}) > 1
    for each in frontiers:
        sections.append(f"**{_heading(each)}**")
        sections.append(_table(each, several))
        sections.append(cell(sentence(each, budgets if each.axis == TOKENS else (), several)))
    return "\n\n".join([*sections, NOTE]) + "\n"


NOTE = (
    "On the frontier is what beats the cheaper one before it by more than chance, all pairs of options considered; "
    "gains are paired by item, their intervals hold for all pairs at once. Held out: within that cost, what is best on "
    "half of the items, scored on the others."
)


def _heading(frontier: Frontier) -> str:
    what = {TOKENS: "tokens", LATENCY: "latency", USD: "dollars"}[frontier.axis]
    considered = f"{len(frontier.options):,} options, {frontier.items:,} items"
    return f"{cell(frontier.task)}: accuracy against {what} ({considered})"


def _table(frontier: Frontier, several: bool) -> str:
    columns = (UNITS[frontier.axis], "accuracy", "interval", "held out", "gain over the one before")
    lines = [
        (
            _named(point, several, cell),
            amount(point.cost, frontier.axis),
            percent(point.accuracy),
            f"{100 * point.interval.low:.1f} – {100 * point.interval.high:.1f}",
            percent(point.held_out),
            gained(point),
        )
        for point in frontier.points
    ]
    return markdown(("on the frontier", *columns), lines)


def _named(point: Priced, several: bool, written: Any = str) -> str:
    words = point.option.words
    return str(written(f"{words} ({point.option.sweep})" if several else words))


def gained(point: Priced) -> str:
    """``+12.0 (+4.1 … +19.8)``; empty of the cheapest."""
    if point.gain is None:
        return ""
    low, high = point.gain.interval.low, point.gain.interval.high
    return f"{100 * point.gain.value:+.1f} ({100 * low:+.1f} … {100 * high:+.1f})"


def sentence(frontier: Frontier, budgets: Sequence[float] = (), several: bool = False) -> str:
    """``For 4,000 tokens a question: 2 samples cut at 2,048 (61.2%); for 16,000: …``.

    For each of `budgets`; without any, for what each point of the frontier costs, rounded up to two digits.
    """
    if not frontier.points:
        return "Nothing could be graded, so nothing is known to be worth its cost."
    asked = sorted(set(budgets)) or [_rounded_up(point.cost) for point in frontier.points]
    said: list[str] = []
    for budget in asked:
        point = frontier.within(budget)
        size = amount(budget, frontier.axis, exact=True)
        start = f"for {size}" + (f" {_per_question(frontier.axis)}" if not said else "")
        if point is None:
            said.append(f"{start}: nothing, the cheapest takes {amount(frontier.points[0].cost, frontier.axis)}")
        else:
            said.append(f"{start}: {_named(point, several)} ({percent(point.accuracy)})")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _per_question(axis: str) -> str:
    return {TOKENS: "tokens a question", LATENCY: "tokens one after the other", USD: "a question"}[axis]


def _rounded_up(cost: float) -> float:
    """To two significant digits, so that what costs so much is affordable."""
    if not cost > 0:
        return cost
    unit = 10.0 ** (math.floor(math.log10(cost)) - 1)
    return math.ceil(cost / unit - 1e-9) * unit


def amount(cost: float, axis: str, exact: bool = False) -> str:
    """``2,290``, ``13.4``, ``$0.0021``; a budget is `exact`."""
    if axis == USD:
        return f"${cost:.2g}" if cost < 1 else f"${cost:,.2f}"
    if exact or cost >= 1000:
        return f"{cost:,.0f}" if cost >= 1 else f"{cost:g}"
    return f"{cost:,.1f}"
