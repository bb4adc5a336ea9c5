"""The tables of a report that need no drawing: searches beside votes, methods, published values, all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.catalogue import in_usd
from jobs.evaluate.figures import equal_tokens
from jobs.evaluate.figures.frontier_tables import NOTE
from jobs.evaluate.report.results import FinishedSweep, Record, count, difference, p_value, percent
from jobs.evaluate.stopping.findings import TURN_COLUMNS, sentences, turn_rows

MOST_PAIRS = 1000
"""Rows of a table of pairs: 100 policies have 4,950, which nobody reads."""

SURE = 0.05
"""A corrected p below it is called more than luck."""


@dataclass(frozen=True)
class Listing:
    """A table of texts."""

    title: str
    columns: Sequence[str]
    texts: int
    """How many columns, the first ones, are of words; the others are of numbers."""
    rows: Sequence[Sequence[str]]
    note: str
    folded: bool = False
    """Whether it is for those who look for it."""


def listings(sweep: FinishedSweep, task: str) -> Iterator[Listing]:
    """Those of one task that have rows."""
    for listing in (each(sweep, task) for each in (_equal_tokens, _methods, _turns, _published, _costs, _pairs)):
        if listing.rows:
            yield listing


def _equal_tokens(sweep: FinishedSweep, task: str) -> Listing:
    rows = equal_tokens.lines(each for each in sweep.equal_tokens if each["task"] == task)
    title = "Searches against votes at equal tokens"
    return Listing(title, equal_tokens.COLUMNS, equal_tokens.WORDS, rows, equal_tokens.NOTE)


def _methods(sweep: FinishedSweep, task: str) -> Listing:
    rows = [
        (
            str(each["method"]),
            str(len(each["policies"])),
            percent(each["control"]),
            _bounded(each, "scaling_per_1000_tokens", 1),
            _bounded(each, "scaling_per_doubling", 1),
            percent(each["performance"]),
            percent(each.get("performance_held_out")),
            _interval(each["performance_low"], each["performance_high"], 100),
        )
        for each in sweep.methods
        if each["task"] == task
    ]
    return Listing(
        "Ways of spending more thinking",
        (
            "method",
            "runs",
            "Control",
            "Scaling per 1,000 tokens",
            "Scaling per doubling",
            "Performance",
            "held out",
            "95%",
        ),
        1,
        rows,
        "Control is the share of runs that kept to what was asked, in percent; Scaling the mean slope in points, per "
        "1,000 tokens as the s1 paper defines it and per doubling of tokens as it printed it; Performance the best "
        "accuracy, in percent, which chose luck too. Held out is what the best run on half of the items scores on the "
        "others; the interval beside it is that of the best run's true accuracy, and accounts for the choice.",
    )


def frontier_listing(frontier: Record) -> Listing:
    """What is on the frontier over one kind of cost."""
    rows = [
        (
            str(each["words"]),
            count(each["cost"]),
            percent(each["accuracy"]),
            _interval(each["accuracy_low"], each["accuracy_high"], 100),
            percent(each["held_out"]),
            _bounded(each, "gain", 100) if "gain" in each else "",
        )
        for each in frontier["options"]
        if each["on_frontier"]
    ]
    return Listing(
        "On the frontier",
        ("on the frontier", "tokens", "accuracy", "95%", "held out", "gain over the one before"),
        1,
        rows,
        f"Of {len(frontier['options']):,} options. {NOTE}",
    )


def _turns(sweep: FinishedSweep, task: str) -> Listing:
    record = next((each for each in sweep.stopping if each["task"] == task), None)
    note = (
        "Of all samples, those whose answer turns right, and those whose answer turns wrong, as thinking goes on from "
        "one probe to the next. What a rule's probes cost is in its thinking tokens. "
    )
    return Listing(
        "What more thinking turns over",
        TURN_COLUMNS,
        1,
        [] if record is None else turn_rows(record),
        "" if record is None else note + sentences(record),
    )


def _published(sweep: FinishedSweep, task: str) -> Listing:
    source, values = sweep.published
    rows = [
        (
            str(each["name"]) + ("" if each["quantity"] == "accuracy" else f", {each['quantity']}"),
            str(each["verdict"]),
            _decimal(each["ours"]),
            _decimal(each["published"]),
            _interval(each["difference_low"], each["difference_high"], 1),
            *(
                "" if each.get(name) is None else f"{each[name]:,.0f}"
                for name in ("our_tokens", "our_tokens_with_scorer", "published_tokens")
            ),
        )
        for each in values
        if each["task"] == task
    ]
    return Listing(
        "Beside published values",
        (
            *("", "ours is", "ours", "published", "difference, 95%"),
            *("thinking tokens, ours", "all, the scorer's too", "tokens, published"),
        ),
        2,
        rows,
        f"In percent; Scaling in points per doubling. Source: {source}. A published value is taken for a share of as "
        "many items as ours, which were asked the same: values called apart are, and those within noise may differ.",
    )


def _costs(sweep: FinishedSweep, task: str) -> Listing:
    seconds = f"{sweep.config.machine.device.lower()}_seconds"
    rows = [
        (
            str(each["policy"]),
            f"{each['tokens_alone']:,.0f}",
            _decimal(each.get(f"{seconds}_alone")),
            _usd(each.get("cost_usd_alone")),
            percent(each["share"]),
            _decimal(each[seconds]),
            _usd(each["cost_usd"]),
        )
        for each in sweep.costs
        if each["task"] == task and "share" in each
    ]
    device = sweep.config.machine.device
    return Listing(
        "What each policy cost",
        ("policy", "tokens", f"{device}-seconds", "cost", "share", f"{device}-seconds of it", "cost of it"),
        1,
        rows,
        "First what the policy by itself needs: its tokens, at what this sweep took for a token. Then its share of the "
        "one pass that decoded them all: its tokens, of those that all policies of the sweep need one by one. Prices "
        f"are of {sweep.config.machine.price}.",
    )


def _pairs(sweep: FinishedSweep, task: str) -> Listing:
    pairs = [each for each in sweep.comparisons if each["task"] == task]
    rows = [
        (
            str(each["policy"]),
            str(each["reference"]),
            difference(each),
            p_value(each["p_value"]),
            p_value(each["p_holm"]),
            f"{each['better']:,} / {each['worse']:,}",
            _decimal(each["detectable"], 100),
        )
        for each in pairs[:MOST_PAIRS]
    ]
    sure = sum(each["p_holm"] is not None and each["p_holm"] < SURE for each in pairs)
    shown = "" if len(pairs) <= MOST_PAIRS else f"; the surest {MOST_PAIRS:,} are listed, comparisons.json has all"
    return Listing(
        f"All {len(pairs):,} pairs: {sure:,} differ by more than luck, corrected for their number{shown}",
        ("policy", "less", "difference", "p", "p corrected", "items better / worse", "detectable"),
        2,
        rows,
        "Differences in percentage points; their 95% intervals and p are those of a score test paired by item, "
        "whatever samples that could not be graded would have been; p corrected is a paired t test's, by Holm's "
        "method over all pairs of the sweep; detectable is the smallest difference that so many items show with 80% "
        "power.",
        folded=True,
    )


def _bounded(record: Record, name: str, scale: float) -> str:
    if record[name] is None:
        return "–"
    return f"{_decimal(record[name], scale)} {_interval(record[f'{name}_low'], record[f'{name}_high'], scale)}".rstrip()


def _interval(low: float | None, high: float | None, scale: float) -> str:
    return "" if low is None or high is None else f"({_decimal(low, scale)} … {_decimal(high, scale)})"


def _usd(amount: float | None) -> str:
    return "–" if amount is None else in_usd(amount)


def _decimal(value: float | None, scale: float = 1) -> str:
    return "–" if value is None else f"{scale * value:.1f}".replace("-", "−")
