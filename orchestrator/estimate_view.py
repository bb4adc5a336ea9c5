"""How ``plan`` shows what a step would take: one row of memory, the verdict, the remedies, time and cost."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cluster.catalogue import in_usd
from orchestrator.display import duration
from orchestrator.job.estimate import Estimate


def show(step: str, estimate: Estimate, out: Console) -> None:
    """Prints the estimate of a step."""
    if estimate.memory:
        out.print(_table(step, estimate))
    else:
        out.print(f"{step}: {estimate.holder}", markup=False, soft_wrap=True)
    if estimate.parts:
        out.print(_parts(step, estimate))
    for line in lines(estimate):
        out.print(line, markup=False, soft_wrap=True)


def lines(estimate: Estimate) -> list[str]:
    """All that is said below the table."""
    said = []
    if estimate.memory:
        verdict = f"{estimate.verdict}: {size(estimate.total)} of {size(estimate.available)}"
        said.append(verdict if not estimate.remedies else f"{verdict}; these would fit:")
        said += [f"  {remedy}" for remedy in estimate.remedies]
    if estimate.seconds is not None:
        costs = "" if estimate.usd is None else f", {in_usd(estimate.usd)}"
        hours = "" if estimate.device_hours is None else f", {estimate.device_hours:.2g} {estimate.device}-hours"
        said.append(f"takes about {duration(estimate.seconds)}{hours}{costs}{_at_most(estimate)}")
    return [*said, *estimate.remarks]


def size(amount: float) -> str:
    """``8.2 GB``, ``310.0 MB``: in units of 1000."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def _table(step: str, estimate: Estimate) -> Table:
    table = Table(title=f"{step} · memory of {estimate.holder}, {estimate.moment}", title_justify="left")
    for name in (*estimate.memory, "total", "available"):
        table.add_column(name, justify="right")
    table.add_row(*(size(amount) for amount in (*estimate.memory.values(), estimate.total, estimate.available)))
    return table


def _parts(step: str, estimate: Estimate) -> Table:
    """A row per part: what it would take by itself, and its share of the step."""
    table = Table(title=f"{step} · each policy by itself, and its share of one pass", title_justify="left")
    priced = estimate.usd is not None
    columns = ["tokens", *(["time", f"{estimate.device}-hours", "cost"] if priced else []), "share"]
    table.add_column("policy", overflow="fold")
    for column in (*columns, *(["cost of it"] if priced else [])):
        table.add_column(column, justify="right")
    for part in estimate.parts:
        cells = [f"{part.tokens:,.0f}"]
        if part.seconds is not None and part.device_hours is not None and part.usd is not None:
            cells += [duration(part.seconds), f"{part.device_hours:.2g}", in_usd(part.usd)]
        cells.append(f"{part.share:.1%}")
        cells += [in_usd(part.share * estimate.usd)] if estimate.usd is not None else []
        table.add_row(part.name, *cells)
    return table


def _at_most(estimate: Estimate) -> str:
    if estimate.most_seconds is None:
        return ""
    costs = "" if estimate.most_usd is None else f", {in_usd(estimate.most_usd)}"
    return f"; at most {duration(estimate.most_seconds)}{costs}, if all of it runs to its largest budget"
