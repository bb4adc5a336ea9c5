"""How a run ends on the terminal: tables of what is finished, how well it was estimated, and where its pages are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.markdown_view import show
from orchestrator.plan import PlannedStep
from orchestrator.spending import compared
from orchestrator.store.storage import storage_of
from orchestrator.tracking.tracker import without_credentials

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath


def show_results(planned: Sequence[PlannedStep], pages: Sequence[StoragePath]) -> None:
    """Prints what whole steps came to, and where the reports on them are."""
    whole = [item for item in planned if item.folder.whole()]
    for item in whole:
        if (table := storage_of(item.folder.output / "table.md").read_bytes()) is not None:
            click.echo()
            show(table.decode(errors="replace").rstrip())
            click.echo()
            click.echo(f"{item.step.name}: plots, table and samples in {item.folder.output}")
    for item in whole:
        if error := compared(item.folder):
            click.echo(f"{item.step.name}: {error}")
    for page in pages:
        click.echo(f"report: {page}")


def served(tracking: str) -> str:
    """What has to run for a page of MLflow's to be there: nothing where there is a server."""
    if tracking.startswith("http"):
        return ""
    return f" (after: mlflow ui --backend-store-uri {shlex.quote(without_credentials(tracking))})"
