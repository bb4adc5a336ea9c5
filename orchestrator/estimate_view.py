"""How ``plan`` shows what a step would take: one row of memory, the verdict, the remedies, time and cost."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from orchestrator.display import duration
from orchestrator.step import Estimate


def show(step: str, estimate: Estimate, out: Console) -> None:
    """Prints the estimate of a step."""
    if estimate.memory:
        out.print(_table(step, estimate))
    else:
        out.print(f"{step}: {estimate.holder}", markup=False, soft_wrap=True)
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
        costs = "" if estimate.usd is None else f", {_usd(estimate.usd)}"
        hours = "" if estimate.device_hours is None else f", {estimate.device_hours:.2g} {estimate.device}-hours"
        said.append(f"takes about {duration(estimate.seconds)}{hours}{costs}")
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


def _usd(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:.2f}" if amount >= 0.01 else "less than $0.01"
