"""The kinds of step that an experiment file can name, and how to load each without loading the others."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from orchestrator.job.config import StepConfig
from orchestrator.job.context import StepContext
from orchestrator.job.record import Comparer, Regraded, ReportWriter

JOBS = ("evaluate", "finetune", "letters")
SHORT = ("letters",)
"""Kinds that leave nothing behind in their process, so that one process may do many of their steps: to start one takes
longer than such a step."""
LOOKS = ("finetune",)
"""Kinds that learn from data, which can be looked at before."""
REPORTS = ("evaluate",)
"""Kinds with a report on their finished steps."""
COMPARISONS = ("evaluate",)
"""Kinds of which two results can be compared."""
GRADED = ("evaluate",)
"""Kinds whose results are verdicts, which can be given again."""


def config_class(kind: str) -> type[StepConfig]:
    """The config of a kind of step; light to import. Raises KeyError for an unknown kind."""
    if kind not in JOBS:
        raise KeyError(kind)
    return importlib.import_module(f"jobs.{kind}.config").Config


def look(kind: str) -> Callable[[StepConfig, StepContext], str]:
    """What shows the data that a step of one of `LOOKS` would learn from, as text, before it runs."""
    return importlib.import_module(f"jobs.{kind}.prepare").look


def entrypoint(kind: str) -> Callable[[StepConfig, StepContext], None]:
    """The function that does the work of a kind; imports whatever that needs."""
    return importlib.import_module(f"jobs.{kind}.run").run


def regrader(kind: str) -> Callable[[StepConfig, StepContext], Regraded]:
    """The function that grades a finished step of one of `GRADED` again; imports whatever that needs."""
    found: Callable[[StepConfig, StepContext], Regraded] = importlib.import_module(f"jobs.{kind}.regrade").regrade
    return found


def comparer(kind: str) -> Comparer:
    """What compares two results of one of `COMPARISONS`; imports whatever that needs."""
    found: Comparer = importlib.import_module(f"jobs.{kind}.compare").compare
    return found


def report_writer(kind: str) -> ReportWriter:
    """What writes the report on finished steps of one of `REPORTS`; imports whatever that needs."""
    writer: ReportWriter = importlib.import_module(f"jobs.{kind}.report").write
    return writer
