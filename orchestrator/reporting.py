"""The report of an experiment: one page, and the same in Markdown, on its finished steps of each kind that offers one.

Reports are derived from the store alone, so they can be written, lost and written again at any time. Each is in
``<store>/reports/<experiment>-<hash>/``; the hash is over the steps that it is about, so the report of an experiment
with other values (``--set``) has a place of its own.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.command_line import called
from orchestrator.experiment import Experiment
from orchestrator.fingerprint import fingerprint
from orchestrator.finished import finished_step
from orchestrator.job.record import ReportRequest
from orchestrator.job.tracked_run import folder_name
from orchestrator.plan import PlannedStep
from orchestrator.registry import JOBS
from orchestrator.store.records import DamagedRecord, tell, write_json_atomically
from orchestrator.store.step_folders import Store
from orchestrator.store.storage import storage_of
from orchestrator.tracking.tracker import without_credentials

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

PAGE = "report.html"
STEPS = "steps.json"
"""The folders of the steps that a report is about."""


def command(file: Path, overrides: Sequence[str]) -> str:
    """The shell's words that write the report of an experiment; credentials in overrides are left out."""
    sets = [word for override in overrides for word in ("--set", without_credentials(override))]
    return shlex.join([*called().split(), "report", str(file), *sets])


def write_reports(
    experiment: Experiment,
    store: Store,
    planned: Iterable[PlannedStep],
    command: str,
    items: tuple[str, ...] = (),
    megabytes: float | None = None,
    which: Literal["all", "missing", "there"] = "all",
) -> list[StoragePath]:
    """Writes a report per kind of step, on those that the store has; returns the pages.

    `which` leaves out pages that are there, or those that are not. Raises StepError for items that no step has.
    """
    by_kind: dict[str, list[PlannedStep]] = {}
    for step in planned:
        if JOBS[step.step.kind].report and whole(step):
            by_kind.setdefault(step.step.kind, []).append(step)
    pages: list[StoragePath] = []
    for kind, steps in by_kind.items():
        what = fingerprint({step.step.name: step.fingerprint for step in steps})
        folder = store.reports / f"{folder_name(experiment.name)}-{what}"
        pages.append(folder / PAGE)
        if which == ("missing" if pages[-1].exists() else "there"):
            continue
        finished = [finished_step(step, experiment, store) for step in steps]
        size: dict[str, Any] = {} if megabytes is None else {"megabytes": megabytes}
        with _written_to(folder) as local:
            write_json_atomically(local / STEPS, [step.folder.path.name for step in steps])
            request = ReportRequest(experiment.name, local, command, items, **size)
            report = JOBS[kind].report
            assert report is not None, "only kinds that report have steps here"
            report(finished, request)
        for each in finished:
            each.context.send()
    return pages


def whole(step: PlannedStep) -> bool:
    """Whether a step is finished, with nothing damaged that the report would tell."""
    try:
        return step.folder.verify()[0] > 0
    except DamagedRecord as error:
        tell(f"{step.step.name}: damaged: {error}; it is not in the report, and run makes it again")
        return False


@contextmanager
def _written_to(folder: StoragePath) -> Iterator[Path]:
    """A local folder whose files are in `folder` afterwards."""
    storage_of(folder).make_folder()
    if (local := storage_of(folder).local) is not None:
        yield local
        return
    with tempfile.TemporaryDirectory(prefix="report") as temporary:
        yield Path(temporary)
        storage_of(folder).put(Path(temporary), storage_of(Path(temporary)).files())
