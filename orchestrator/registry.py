"""The kinds of step that an experiment file can name.

Ours are the packages of :mod:`jobs` that have a module ``job``; others are found by the entry points of
``scaling_orchestrator.jobs``. Each gives a :class:`~orchestrator.job.record.Job`, and importing that is light.
"""

from __future__ import annotations

from pathlib import Path

import jobs as ours
from orchestrator.job.extensions import ExtensionPoint
from orchestrator.job.record import Job

JOBS: ExtensionPoint[Job] = ExtensionPoint(
    "scaling_orchestrator.jobs",
    Job,
    {
        path.parent.name: f"{ours.__name__}.{path.parent.name}.{path.stem}:JOB"
        for folder in ours.__path__
        for path in sorted(Path(folder).glob("*/job.py"))
    },
)
