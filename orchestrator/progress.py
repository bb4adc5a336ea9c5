"""How far a step is, read from the store alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from cluster.catalogue import in_usd
from orchestrator.display import duration
from orchestrator.experiment import Experiment
from orchestrator.job.estimate import Estimate
from orchestrator.job.retries import counted
from orchestrator.plan import PlannedStep, estimates
from orchestrator.spending import spent


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
    spent: float = 0.0
    """USD, of all attempts."""
    projected: float | None = None
    """USD when it is done; None where that cannot be told."""


def look(planned: PlannedStep, estimate: Estimate | None = None) -> View:
    """The state of a step now. A step whose run died is ``interrupted``, whatever its last status says."""
    folder = planned.folder
    usd = None if estimate is None else estimate.usd
    if not folder.path.exists():
        return View("not started", projected=usd)
    status, progress = folder.read_status(), folder.read_progress()
    state = "done" if planned.verdict == "done" else status.get("state", "not started")
    lease = folder.live_lease()
    if state in ("running", "waiting", "restarting") and lease is None:
        state = "interrupted"
    if state == "done" and planned.verdict != "done":
        state = "damaged"
    done, total = progress.get("done", 0), progress.get("total", 0)
    shown = f"{done:,.0f}/{total:,.0f} {progress['unit']}" if progress else ""
    started = status.get("started")
    until = status.get("finished") or (time.time() if lease else progress.get("time", started))
    elapsed = until - started if started and until else None
    eta = _eta(progress, elapsed) if state == "running" and elapsed else ""
    lost = folder.read_losses()
    reason = lost.get("reason") or status.get("reason")
    note = status.get("error") or (f"went on after {reason}" if reason and state == "running" else "")
    if not note and state == "running" and lease:
        note = str(lease)
    if state == "damaged":
        note = planned.reason
    losses = counted(status.get("restarts", {}), lost.get("counts", {}))
    paid = spent(folder)
    cost = 0.0 if paid is None else paid.usd
    if state == "done":
        usd = cost
    elif 0 < done < total and cost:
        usd = cost * total / done
    return View(state, shown, duration(elapsed) if elapsed is not None else "", eta, losses, note, cost, usd)


def _eta(progress: Mapping[str, Any], elapsed: float) -> str:
    """What the step itself expects, else by its share of the time so far."""
    done, total, left = progress.get("done", 0), progress.get("total", 0), progress.get("left")
    if left is None:
        return duration(elapsed * (total - done) / done) if 0 < done < total else ""
    return duration(max(0.0, left - (time.time() - progress["time"])))


def table(experiment: Experiment, planned: Sequence[PlannedStep]) -> Table:
    """The page of ``status``: a row per step, and what all of it costs."""
    shown = Table(title=f"{experiment.name} · store {experiment.store}", title_justify="left", caption_justify="left")
    for column in ("step", "state", "progress", "elapsed", "ETA", "lost", "spent", "projected", "note"):
        shown.add_column(column, overflow="fold")
    foreseen = estimates(list(planned))
    views = [look(item, foreseen.get(item.step.name)) for item in planned]
    for item, view in zip(planned, views, strict=True):
        paid, whole = in_usd(view.spent), "" if view.projected is None else in_usd(view.projected)
        cells = (view.state, view.progress, view.elapsed, view.eta, view.losses, paid, whole, view.note)
        shown.add_row(item.step.name, *cells)
    limit = "" if experiment.max_cost is None else f" of max_cost {in_usd(experiment.max_cost)}"
    known = [view.projected for view in views if view.projected is not None]
    rest = "" if len(known) == len(views) else " and what cannot be told"
    shown.caption = f"spent {in_usd(sum(view.spent for view in views))}{limit}; projected {in_usd(sum(known))}{rest}"
    return shown


def records(planned: Sequence[PlannedStep]) -> list[dict[str, Any]]:
    """The steps for programs: name, fingerprint, state, progress (done, total, unit; None: none yet) and USD spent."""
    return [
        {
            "step": item.step.name,
            "fingerprint": item.fingerprint,
            "state": (view := look(item)).state,
            "progress": {name: progress[name] for name in ("done", "total", "unit")} if progress else None,
            "usd": view.spent,
        }
        for item in planned
        for progress in [item.folder.read_progress() if item.folder.path.exists() else {}]
    ]


def running(planned: Sequence[PlannedStep]) -> bool:
    """Whether a live run works on any of these steps."""
    return any(item.folder.live_lease() is not None for item in planned)
