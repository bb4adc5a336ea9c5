"""What the store says of an experiment now: ``status``, and what each running step's kind has to show."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.experiment import Experiment
from orchestrator.job.record import Follower, LiveSection
from orchestrator.plan import PlannedStep, estimates, plan
from orchestrator.progress import View, look, running
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import Store


@dataclass(frozen=True)
class Snapshot:
    """An experiment at one moment."""

    experiment: Experiment
    views: Mapping[str, View]
    """By step."""
    shares: Mapping[str, float]
    """Of each step that is done, by its own progress."""
    sections: Sequence[LiveSection]
    running: bool
    time: float


@dataclass
class Watch:
    """Looks at an experiment again and again."""

    experiment: Experiment
    store: Store
    followers: dict[str, Follower] = field(default_factory=dict)
    """By step, from when its inputs are there. What was done before is for the report."""

    def look(self, sections: bool = True) -> Snapshot:
        """Now. What kinds have to show takes seconds the first time; without `sections`, it is left out."""
        planned = plan(self.experiment, self.store)
        foreseen = estimates(planned)
        views = {item.step.name: look(item, foreseen.get(item.step.name)) for item in planned}
        shown = [self._section(item, planned) for item in planned] if sections else []
        return Snapshot(
            experiment=self.experiment,
            views=views,
            shares=dict(map(_share, planned)),
            sections=[section for section in shown if section is not None],
            running=running(planned),
            time=time.time(),
        )

    def _section(self, item: PlannedStep, planned: Sequence[PlannedStep]) -> LiveSection | None:
        name = item.step.name
        follow = JOBS[item.step.kind].follow
        if follow is None or not item.folder.path.exists():
            return None
        if name not in self.followers:
            if item.verdict == "done" or any(
                taken.verdict != "done" for taken in planned if taken.step.name in item.inputs
            ):
                return None
            self.followers[name] = follow(item.step.config, item.context(self.experiment, self.store))
        return self.followers[name].look()


def _share(item: PlannedStep) -> tuple[str, float]:
    if item.verdict == "done":
        return item.step.name, 1.0
    progress = item.folder.read_progress() if item.folder.path.exists() else {}
    done, total = progress.get("done", 0), progress.get("total", 0)
    return item.step.name, min(1.0, done / total) if total else 0.0
