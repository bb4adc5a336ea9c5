"""Giving verdicts once more."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.command_line import FAILED, FILE, SET, prepare


@click.command()
@FILE
@SET
def grade(file: Path, overrides: tuple[str, ...]) -> None:
    """Grade what is done once more, decoding nothing, and show which verdicts changed.

    Tables, curves, datasets, reports and MLflow then say what the graders of this version say. Steps that take what has
    become another are not done any more.
    """
    experiment, store, planned = prepare(file, overrides)
    from orchestrator import grade as grading
    from orchestrator.display import console
    from orchestrator.plan import plan
    from orchestrator.reporting import command, write_reports
    from orchestrator.tracking.mirror import Mirror

    if any(step.verdict == "done" for step in planned):
        store.check_writable()
    out = console()
    with Mirror(experiment, out) as mirror:
        finished = grading.grade(experiment, store, planned, out)
        planned = plan(experiment, store)
        write_reports(experiment, store, planned, command(file, overrides), which="there")
        for step in planned:
            mirror.catch_up(step)
    sys.exit(0 if finished else FAILED)
