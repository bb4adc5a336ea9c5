"""What would run, and what it would take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.command_line import FILE, SET, WOULD_RUN, Refused, prepare

if TYPE_CHECKING:
    from orchestrator.plan import PlannedStep


@click.command()
@FILE
@SET
@click.option(
    "--cluster", type=click.Path(path_type=Path), help="A cluster file: whether its machines can ever hold each step."
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 4 where steps would run, with 0 only where none do.")
def plan(file: Path, overrides: tuple[str, ...], cluster: Path | None, detailed_exitcode: bool) -> None:
    """Show each step: done or would run, why, and what it would take."""
    experiment, _, planned = prepare(file, overrides, starts=True)
    if cluster is not None:
        _placed_on(cluster, planned)
    from orchestrator.plan_view import show

    show(experiment, planned)
    if detailed_exitcode and any(item.verdict != "done" for item in planned):
        sys.exit(WOULD_RUN)


def _placed_on(cluster: Path, planned: list[PlannedStep]) -> None:
    """Refuses steps that would run and that no machines of a cluster file can ever hold."""
    from cluster.node_types import ClusterFileError, read, unplaceable
    from orchestrator.job.local_files import file_problem

    if problem := file_problem(cluster):
        raise Refused(f"{cluster}: {problem}: give a cluster file")
    try:
        types = read(cluster)
    except ClusterFileError as error:
        raise Refused(str(error)) from None
    reasons = {
        item.step.name: unplaceable(item.step.config.demands(), types) for item in planned if item.verdict != "done"
    }
    lines = [f"steps.{name}.resources: {why} of {cluster}" for name, why in reasons.items() if why]
    if lines:
        raise Refused("\n".join(lines))
