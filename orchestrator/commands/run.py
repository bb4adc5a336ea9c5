"""Running what is not done, and how a run ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.command_line import FAILED, FILE, OVER_COST, SET, Refused, prepare

if TYPE_CHECKING:
    from orchestrator.display import Display
    from orchestrator.experiment import Experiment
    from orchestrator.plan import PlannedStep
    from orchestrator.store.step_folders import Store
    from orchestrator.tracking.mirror import Mirror


LONGEST_RAY_FOLDER = 107 - len("/ray/session_2026-11-27_09-00-22_123456_4194304/sockets/plasma_store")
"""Characters: what is left of a socket's name."""


@click.command()
@FILE
@SET
def run(file: Path, overrides: tuple[str, ...]) -> None:
    """Run what is not done, then show the result.

    On the cluster that RAY_ADDRESS names (as in a Ray job), else on a local one for this run alone.
    """
    experiment, store, planned = prepare(file, overrides, starts=True)
    from orchestrator.display import Display, console
    from orchestrator.reporting import command, write_reports
    from orchestrator.results_view import served, show_results
    from orchestrator.tracking.mirror import Mirror
    from orchestrator.tracking.tracker import without_credentials

    out = console()
    for note in experiment.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    store.check_writable()
    with Mirror(experiment, out) as mirror, Display(out) as display:
        if all(step.verdict == "done" for step in planned):
            display.say(f"{experiment.name}: everything is done, nothing to run")
            finished = True
        else:
            finished = _execute(experiment, store, planned, display, mirror)
        pages = write_reports(experiment, store, planned, command(file, overrides), which="missing")
        for step in planned:
            mirror.catch_up(step)
    show_results(planned, pages)
    click.echo(f"MLflow: {mirror.page or without_credentials(experiment.tracking)}{served(experiment.tracking)}")
    sys.exit(0 if finished else FAILED)


def _execute(
    experiment: Experiment, store: Store, planned: list[PlannedStep], display: Display, mirror: Mirror
) -> bool:
    """Runs what is not done; exits with 128 and the signal's number when told to stop, or with OVER_COST."""
    for step in planned:
        display.say(f"{step.step.name}: {step.verdict}{f' ({step.reason})' if step.reason else ''}")
    if problem := _no_room_for_sockets():
        raise Refused(problem)
    from orchestrator import executor
    from orchestrator.connection import ClusterError, ClusterLost
    from orchestrator.interrupts import Interrupted
    from orchestrator.spending import OverCost
    from orchestrator.tracking.tracker import TrackingError

    try:
        mirror.check()
        return executor.run(experiment, store, planned, display, mirror)
    except Interrupted as interruption:
        display.say(f"interrupted ({interruption}); the same command continues")
        sys.exit(128 + interruption.signal_number)
    except ClusterLost as loss:
        display.say(str(loss))
        sys.exit(FAILED)
    except (ClusterError, TrackingError) as error:
        raise Refused(str(error)) from None
    except OverCost as reached:
        display.say(str(reached))
        sys.exit(OVER_COST)


def _no_room_for_sockets() -> str:
    """Why Ray could not start here, where its folder's name alone tells; empty where it does not."""
    folder = os.environ.get("RAY_TMPDIR", "")
    if os.environ.get("RAY_ADDRESS") or len(os.fsencode(folder)) <= LONGEST_RAY_FOLDER:
        return ""
    return (
        f"RAY_TMPDIR: {folder} has {len(os.fsencode(folder))} characters, and Ray's sockets below it have names of 107 "
        f"at most: give a folder of at most {LONGEST_RAY_FOLDER}"
    )
