"""What one finished step gains over another."""

from __future__ import annotations

import click

from orchestrator.command_line import Refused


@click.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--points", nargs=2, metavar="A B", help="Compare FIRST's A with SECOND's B: policies as tables name them."
)
@click.option("--tracking", envvar="MLFLOW_TRACKING_URI", default="sqlite:///mlflow.db", help="Where MLflow runs are.")
def compare(first: str, second: str, points: tuple[str, str] | None, tracking: str) -> None:
    """Show what SECOND gains over FIRST, paired by item: two models, two steps, two runs.

    Each is the folder of a finished step (runs/sweep-e70df17c11b46128) or the id of an MLflow run.
    """
    from orchestrator.finished import finished
    from orchestrator.job.errors import StepError
    from orchestrator.markdown_view import show
    from orchestrator.registry import JOBS
    from orchestrator.store.records import DamagedRecord
    from orchestrator.tracking.tracker import TrackingError

    try:
        with finished(first, tracking) as (kind, one), finished(second, tracking) as (other_kind, other):
            comparer = JOBS[kind].compare
            if kind != other_kind or comparer is None:
                raise StepError(
                    f"compare: {one.name} is a step of {kind}, {other.name} of {other_kind}: give two sweeps"
                )
            show(comparer(one, other, points).rstrip())
    except (StepError, TrackingError, DamagedRecord) as error:
        raise Refused(str(error)) from None
