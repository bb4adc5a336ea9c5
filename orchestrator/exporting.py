"""Finished steps of an experiment in formats of other tools: a folder for each step, with one for each format in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.experiment import Experiment
from orchestrator.finished import finished_step
from orchestrator.job.errors import StepError
from orchestrator.plan import PlannedStep
from orchestrator.registry import JOBS
from orchestrator.reporting import whole
from orchestrator.store.step_folders import Store


def formats() -> list[str]:
    """Those that any kind of step has."""
    return sorted({name for job in JOBS.values() for name in job.exports})


def export(
    experiment: Experiment, store: Store, planned: Sequence[PlannedStep], wanted: Sequence[str], folder: Path
) -> list[Path]:
    """Writes every finished step in each of the `wanted` formats that its kind has; returns the folders.

    Raises StepError for a format that no kind has, and where no finished step has one of them.
    """
    known = formats()
    for name in wanted:
        if name not in known:
            raise StepError(f"--to: no format {name!r}: there are {', '.join(known)}")
    done = [step for step in planned if whole(step)]
    written = []
    for step in done:
        exports = JOBS[step.step.kind].exports
        chosen = [name for name in wanted if name in exports]
        if not chosen:
            continue
        finished = finished_step(step, experiment, store)
        takers = [finished_step(each, experiment, store) for each in done if step.step.name in each.inputs]
        for name in chosen:
            place = folder / step.step.name / name
            place.mkdir(parents=True, exist_ok=True)
            exports[name](finished, place, takers)
            written.append(place)
    if not written:
        raise StepError(f"export: no step that is done has a format {' or '.join(wanted)}: run the experiment first")
    return written
