"""The kinds of step that an experiment file can name, and how to load each without loading the others."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from orchestrator.step import Regraded, StepConfig, StepContext

JOBS = ("evaluate", "finetune", "letters")

GRADED = ("evaluate",)
"""Those whose results are verdicts, which can be given again."""


def config_class(kind: str) -> type[StepConfig]:
    """The config of a kind of step; light to import. Raises KeyError for an unknown kind."""
    if kind not in JOBS:
        raise KeyError(kind)
    return importlib.import_module(f"jobs.{kind}.config").Config


def entrypoint(kind: str) -> Callable[[StepConfig, StepContext], None]:
    """The function that does the work of a kind; imports whatever that needs."""
    return importlib.import_module(f"jobs.{kind}.run").run


def regrader(kind: str) -> Callable[[StepConfig, StepContext], Regraded] | None:
    """The function that grades a finished step of a kind again; None for kinds that are not graded."""
    return importlib.import_module(f"jobs.{kind}.regrade").regrade if kind in GRADED else None
