"""What an experiment would do: its steps in order, what each is, whether the store has it, and if not, why not.

Fingerprints follow from the file, and from which finished steps were graded again since, so a plan needs nothing but
the file and the store, and takes no longer than reading them: for each step, one folder is looked up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from orchestrator.experiment import Experiment, Step
from orchestrator.fingerprint import differences, fingerprint, identity
from orchestrator.job.config import Upcoming
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.estimate import Estimate
from orchestrator.registry import JOBS
from orchestrator.spending import spent
from orchestrator.store.records import DamagedRecord
from orchestrator.store.step_folders import VERIFIED_IN_FULL, StepFolder, Store
from orchestrator.store.storage import storage_of
from orchestrator.store.working_files import output_of

StepVerdict = Literal["done", "would run"]


@dataclass(frozen=True)
class PlannedStep:
    """A step with its identity, and what the store says of it."""

    step: Step
    identity: Mapping[str, Any]
    folder: StepFolder
    verdict: StepVerdict
    reason: str
    inputs: Mapping[str, PlannedStep] = field(repr=False, compare=False)
    """The steps it takes, by name."""
    forecast: object | None = None
    """What it will have made, as far as its kind can tell (:mod:`jobs.forecasts`)."""

    @property
    def fingerprint(self) -> str:
        return self.folder.fingerprint

    @cached_property
    def version(self) -> str:
        """What those that take it are identified by."""
        return self.folder.version if JOBS[self.step.kind].regrade else self.fingerprint

    def context(
        self, experiment: Experiment, store: Store, attempt: int = 0, may_spend: float | None = None
    ) -> StepContext:
        """What the step's job is handed."""
        return StepContext(
            experiment=experiment.name,
            name=self.step.name,
            fingerprint=self.fingerprint,
            storage=self.folder.path,
            traces=store.traces,
            inputs={
                name: StepInput(name, taken.version, taken.folder.output, taken.forecast)
                for name, taken in self.inputs.items()
            },
            attempt=attempt,
            spent=spent(self.folder),
            may_spend=may_spend,
        )


def plan(experiment: Experiment, store: Store) -> list[PlannedStep]:
    """The steps of an experiment against a store, in an order in which they can run."""
    planned: dict[str, PlannedStep] = {}
    upcoming: dict[str, Upcoming] = {}
    names = {path.name.rpartition("-")[0] for path in storage_of(store.root).folders()}
    for name, step in experiment.steps.items():
        targets = [reference.step for reference in step.references()]
        inputs = {target: planned[target] for target in targets}
        what = identity(step.kind, step.config, {target: taken.version for target, taken in inputs.items()})
        folder = store.step(name, fingerprint(what))
        waiting_for = [target for target in targets if planned[target].verdict != "done"]
        verdict, reason = _verdict(store if name in names else None, folder, what, waiting_for)
        foresee = JOBS[step.kind].forecast
        forecast = None if foresee is None else foresee(step.config, upcoming)
        upcoming[name] = Upcoming(step.config, None, forecast)
        planned[name] = PlannedStep(step, what, folder, verdict, reason, inputs, forecast)
    return list(planned.values())


def estimates(planned: list[PlannedStep], most: int | None = None) -> dict[str, Estimate]:
    """What each step that would run would take, by name, where its job can tell; of the first `most` such steps."""
    known = {
        item.step.name: Upcoming(
            item.step.config, _looked_into(item.folder) if item.verdict == "done" else None, item.forecast
        )
        for item in planned
    }
    by_step = {}
    for item in [item for item in planned if item.verdict != "done"][:most]:
        estimate = JOBS[item.step.kind].estimate
        if estimate is not None:
            by_step[item.step.name] = estimate(item.step.config, known)
    return by_step


def _looked_into(folder: StepFolder) -> Path:
    """A finished step's output for a plan: on this machine, and from an object store without weights."""
    return output_of(folder.path, VERIFIED_IN_FULL)


def _verdict(
    store: Store | None, folder: StepFolder, what: Mapping[str, Any], waiting_for: list[str]
) -> tuple[StepVerdict, str]:
    """What is to be done about a step, and why; `store` is None where that has no folder of the step's name at all."""
    if store is None:
        return "would run", f"after {', '.join(waiting_for)}" if waiting_for else "not in the store"
    try:
        if folder.done():
            return "done", ""
        damage = ""
    except DamagedRecord as error:
        damage = f"damaged: {error}"
    if damage:
        return "would run", damage
    if folder.path.exists():
        progress = folder.read_progress()
        so_far = f", {progress['done']:,.0f} of {progress['total']:,.0f} {progress['unit']}" if progress else ""
        state = folder.read_status().get("state")
        kind = f"a {state}" if state in ("cancelled", "failed") else "an earlier"
        return "would run", f"continues what {kind} run left{so_far}"
    if changes := _changes(store, folder, what):
        return "would run", f"changed: {changes}"
    if waiting_for:
        return "would run", f"after {', '.join(waiting_for)}"
    return "would run", "not in the store"


def _changes(store: Store, folder: StepFolder, what: Mapping[str, Any]) -> str:
    """Which fields differ from the newest other version of the step, as text; empty where there is none."""
    for other in store.others(folder):
        try:
            before = other.identity
        except DamagedRecord:
            continue
        if before is None:
            continue
        return "; ".join(
            f"{at.removeprefix('config.')} {_short(old)} → {_short(new)}" for at, old, new in differences(before, what)
        )
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
