"""A whole run of an experiment: what is not done, then its reports, and MLflow told of all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from orchestrator import executor
from orchestrator.connection import ClusterError
from orchestrator.display import Display
from orchestrator.experiment import Experiment
from orchestrator.plan import PlannedStep
from orchestrator.reporting import write_reports
from orchestrator.store.step_folders import Store
from orchestrator.tracking.mirror import Mirror

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

LONGEST_RAY_FOLDER = 107 - len("/ray/session_2026-11-27_09-00-22_123456_4194304/sockets/plasma_store")
"""Characters: what is left of a socket's name."""


@dataclass(frozen=True)
class CompleteRun:
    """How a run ended."""

    finished: bool
    """Whether every step is done; else one failed."""
    pages: Sequence[StoragePath]
    """The reports."""
    tracked: str
    """The experiment's page on the tracking server; empty where there is none."""


def complete(
    experiment: Experiment, store: Store, planned: Sequence[PlannedStep], out: Console, command: str
) -> CompleteRun:
    """Runs it; `command` is what a report says to write it again.

    Raises ClusterError, TrackingError, StoreError before anything starts; then Interrupted, ClusterLost and OverCost.
    """
    for note in experiment.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    store.check_writable()
    with Mirror(experiment, out) as mirror, Display(out) as display:
        finished = True
        if all(step.verdict == "done" for step in planned):
            display.say(f"{experiment.name}: everything is done, nothing to run")
        else:
            for step in planned:
                display.say(f"{step.step.name}: {step.verdict}{f' ({step.reason})' if step.reason else ''}")
            if problem := no_room_for_sockets():
                raise ClusterError(problem)
            mirror.check()
            finished = executor.run(experiment, store, list(planned), display, mirror)
        pages = write_reports(experiment, store, list(planned), command, which="missing")
        for step in planned:
            mirror.catch_up(step)
    return CompleteRun(finished, pages, mirror.page or "")


def no_room_for_sockets() -> str:
    """Why Ray could not start here, where its folder's name alone tells; empty where it does not."""
    folder = os.environ.get("RAY_TMPDIR", "")
    if os.environ.get("RAY_ADDRESS") or len(os.fsencode(folder)) <= LONGEST_RAY_FOLDER:
        return ""
    return (
        f"RAY_TMPDIR: {folder} has {len(os.fsencode(folder))} characters, and Ray's sockets below it have names of 107 "
        f"at most: give a folder of at most {LONGEST_RAY_FOLDER}"
    )
