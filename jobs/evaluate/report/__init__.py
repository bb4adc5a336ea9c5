"""The report on finished sweeps: what ``python -m orchestrator report FILE`` writes for their experiment.

Read in this order: ``results`` (what a sweep's files say), ``summary`` (its headlines), ``charts``, ``verdicts`` and
``trees`` (its samples), ``viewer`` (as many of them as a page holds), ``page`` and ``markdown``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobs.evaluate.report import markdown, page
from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.report.viewer import collect
from orchestrator.job.record import FinishedStep, ReportRequest
from orchestrator.store.records import read_passing
from orchestrator.store.step_folders import PAGE


def write(steps: Sequence[FinishedStep], request: ReportRequest) -> None:
    """Writes ``report.html`` and ``report.md``, and puts the page with a tracked run of each sweep.

    Nothing is decoded, graded or measured. Raises StepError for items that no sweep has.
    """
    sweeps = [FinishedSweep(step) for step in steps]
    data = collect(sweeps, request)
    html = request.folder / PAGE
    _replace(html, page.render(sweeps, data, request))
    _replace(request.folder / "report.md", markdown.render(sweeps, data, request))
    for sweep in sweeps:
        for artifacts in _tracked(sweep):
            shutil.copyfile(html, artifacts / html.name)


def _tracked(sweep: FinishedSweep) -> Iterator[Path]:
    """Where the artifacts of the sweep's first curve are: one run has the page, not every one a copy of it."""
    first = sweep.curves[0]
    for record in sorted(sweep.context.folder.glob("tracked/*/run.json")):
        params = (read_passing(record, dict[str, Any]) or {}).get("params")
        if isinstance(params, dict) and (params.get("task"), params.get("curve")) == (first.task, first.name):
            yield record.parent / "artifacts"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
