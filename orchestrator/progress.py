"""How far a step is, read from the store alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from orchestrator.display import duration
from orchestrator.experiment import Experiment
from orchestrator.plan import PlannedStep
from orchestrator.retries import counted


@dataclass(frozen=True)
class View:
    """One row of ``status``, as text."""

    state: str
    progress: str = ""
    elapsed: str = ""
    eta: str = ""
    losses: str = ""
    """What was lost and made good in this run, by cause."""
    note: str = ""


def look(planned: PlannedStep) -> View:
    """The state of a step now. A step whose run died is ``interrupted``, whatever its last status says."""
    folder = planned.folder
    if not folder.path.exists():
        return View("not started")
    status, progress = folder.read_status(), folder.read_progress()
    state = "done" if planned.verdict == "done" else status.get("state", "not started")
    claim = folder.claimed_by()
    if state in ("running", "waiting", "restarting") and claim is None:
        state = "interrupted"
    if state == "done" and planned.verdict != "done":
        state = "damaged"
    done, total = progress.get("done", 0), progress.get("total", 0)
    shown = f"{done:,.0f}/{total:,.0f} {progress['unit']}" if progress else ""
    started = status.get("started")
    until = status.get("finished") or (time.time() if claim else progress.get("time", started))
    elapsed = until - started if started and until else None
    eta = duration(elapsed * (total - done) / done) if state == "running" and elapsed and 0 < done < total else ""
    lost = folder.read_losses()
    reason = lost.get("reason") or status.get("reason")
    note = status.get("error") or (f"went on after {reason}" if reason and state == "running" else "")
    if not note and state == "running" and claim:
        note = str(claim)
    if state == "damaged":
        note = planned.reason
    losses = counted(status.get("restarts", {}), lost.get("counts", {}))
    return View(state, shown, duration(elapsed) if elapsed is not None else "", eta, losses, note)


def table(experiment: Experiment, planned: Sequence[PlannedStep]) -> Table:
    """The page of ``status``: a row per step."""
    found = Table(title=f"{experiment.name} · store {experiment.store}", title_justify="left")
    for column in ("step", "state", "progress", "elapsed", "ETA", "lost", "note"):
        found.add_column(column, overflow="fold")
    for item in planned:
        view = look(item)
        found.add_row(item.step.name, view.state, view.progress, view.elapsed, view.eta, view.losses, view.note)
    return found


def running(planned: Sequence[PlannedStep]) -> bool:
    """Whether a live run works on any of these steps."""
    return any(item.folder.claimed_by() is not None for item in planned)
