"""Grading finished steps again, with the graders of their jobs as they are now.

A step's result changes here, so it is taken as a run takes it: with a lease, and with its done-marker away while its
output is written. Should that be interrupted, the step is not done, and the next run makes it again.
"""

from __future__ import annotations

import uuid
from contextlib import nullcontext

from rich.console import Console
from rich.table import Table

from orchestrator.connection import connected
from orchestrator.experiment import Experiment
from orchestrator.job.errors import StepError
from orchestrator.job.record import Regraded
from orchestrator.plan import PlannedStep
from orchestrator.registry import JOBS
from orchestrator.store.leases import Lease
from orchestrator.store.step_folders import Store
from orchestrator.store.step_leases import heartbeat, leased
from orchestrator.terminal import one_line

SHOWN = 20
"""Answers that are listed on the terminal; the file that is named has all."""

MOST = 500
"""Characters of an answer that are shown."""


def grade(experiment: Experiment, store: Store, planned: list[PlannedStep], out: Console) -> bool:
    """Grades every finished step that can be; returns whether all that could be were finished.

    Raises StoreError when a live run has one of the steps.
    """
    gradable = [step for step in planned if JOBS[step.step.kind].regrade]
    todo = [step for step in gradable if step.verdict == "done"]
    for step in gradable:
        if step not in todo:
            _say(out, f"{step.step.name}: is not done, so there is nothing to grade again: run it first")
    lease = Lease.by_this_process(uuid.uuid4().hex[:8])
    if not todo:
        return False
    finished = len(todo) == len(gradable)
    cluster = connected() if any(step.step.config.grades_on_cluster() for step in todo) else nullcontext()
    folders = [step.folder for step in todo]
    with leased(folders, lease), heartbeat(folders, lease), cluster:
        for step in todo:
            try:
                _grade(experiment, store, step, out)
            except StepError as error:
                _say(out, f"{step.step.name}: {error}")
                finished = False
    return finished


def _grade(experiment: Experiment, store: Store, step: PlannedStep, out: Console) -> None:
    context = step.context(experiment, store)
    context.check_out("output", "tracked")
    regrade = JOBS[step.step.kind].regrade
    assert regrade is not None, "only steps that can be graded again are"
    regraded = regrade(step.step.config, context)
    _say(out, f"{step.step.name}: {regraded.title}")
    if regraded.changed:
        step.folder.unmark_done()
        regraded.apply()
        context.deliver()
        step.folder.mark_done()
    context.send()
    _show(out, regraded)


def _show(out: Console, regraded: Regraded) -> None:
    if not regraded.items:
        return
    for rows in (regraded.by_group, regraded.items[:SHOWN]):
        table = Table()
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(one_line(value, MOST) for value in row.values()))
        out.print(table)
    left = len(regraded.items) - SHOWN
    _say(out, f"{f'{left} more, and all of them: ' if left > 0 else 'the same list: '}{regraded.file}")


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)
