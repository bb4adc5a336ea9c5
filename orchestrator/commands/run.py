"""Running what is not done, and how a run ends."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.command_line import FAILED, FILE, OVER_COST, SET, Refused, prepare
from orchestrator.terminal import plain


@click.command()
@FILE
@SET
def run(file: Path, overrides: tuple[str, ...]) -> None:
    """Run what is not done, then show the result.

    On the cluster that RAY_ADDRESS names (as in a Ray job), else on a local one for this run alone.
    """
    experiment, store, planned = prepare(file, overrides, starts=True)
    from orchestrator.complete import complete
    from orchestrator.connection import ClusterError, ClusterLost
    from orchestrator.display import console
    from orchestrator.interrupts import Interrupted
    from orchestrator.reporting import command
    from orchestrator.results_view import served, show_results
    from orchestrator.spending import OverCost
    from orchestrator.tracking.tracker import TrackingError, without_credentials

    try:
        ended = complete(experiment, store, planned, console(), command(file, overrides))
    except Interrupted as interruption:
        click.echo(plain(f"interrupted ({interruption}); the same command continues"))
        sys.exit(128 + interruption.signal_number)
    except ClusterLost as loss:
        click.echo(plain(str(loss)))
        sys.exit(FAILED)
    except (ClusterError, TrackingError) as error:
        raise Refused(str(error)) from None
    except OverCost as reached:
        click.echo(plain(str(reached)))
        sys.exit(OVER_COST)
    show_results(planned, ended.pages)
    click.echo(f"MLflow: {ended.tracked or without_credentials(experiment.tracking)}{served(experiment.tracking)}")
    sys.exit(0 if ended.finished else FAILED)
