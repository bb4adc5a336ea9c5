"""How ``plan`` shows an experiment: a row per step, and what each that would run would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from orchestrator import estimate_view
from orchestrator.display import console, show_table
from orchestrator.experiment import Experiment
from orchestrator.plan import PlannedStep, estimates

ESTIMATED = 50
"""Steps whose estimates are shown."""


def show(experiment: Experiment, planned: Sequence[PlannedStep]) -> None:
    """Prints the plan."""
    table = Table(title=f"{experiment.name} · store {experiment.store}", title_justify="left")
    for column in ("step", "job", "fingerprint", "plan", "why", "what", "resources"):
        table.add_column(column, overflow="fold")
    for item in planned:
        config = item.step.config
        needs = bundles(config.demands())
        table.add_row(
            item.step.name, item.step.kind, item.fingerprint, item.verdict, item.reason, config.describe(), needs
        )
    out = console()
    for note in experiment.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    show_table(table, out)
    for name, estimate in estimates(list(planned), ESTIMATED).items():
        estimate_view.show(name, estimate, out)
    if (more := sum(item.verdict != "done" for item in planned) - ESTIMATED) > 0:
        out.print(f"and {more:,} steps more, whose estimates are not shown", markup=False, soft_wrap=True)


def bundles(demands: Sequence[Mapping[str, float]]) -> str:
    """``2 x {CPU: 1}``."""
    texts = ["{" + ", ".join(f"{name}: {amount:g}" for name, amount in demand.items()) + "}" for demand in demands]
    return ", ".join(f"{texts.count(text)} x {text}" for text in dict.fromkeys(texts))
