"""What of this machine or cluster would stop an experiment."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.command_line import FAILED, SET, Refused
from orchestrator.terminal import one_line

LONGEST = 500
"""Characters of a finding."""


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@SET
def doctor(file: Path | None, overrides: tuple[str, ...]) -> None:
    """Look for what would stop an experiment here: versions, GPUs, store, tracking, tokens, ports, disk, cluster.

    With a FILE, its store and tracking server; else those that the environment names. Exits with 1 where there is a
    problem, each said with what to do.
    """
    from orchestrator.complaints import ExperimentError
    from orchestrator.doctor import findings
    from orchestrator.experiment import load, located

    try:
        if file is None:
            store, tracking, wandb = located()
        else:
            experiment = load(file, overrides, contents=False)
            store, tracking, wandb = experiment.store, experiment.tracking, experiment.wandb
    except (ExperimentError, ValueError) as error:
        raise Refused(str(error)) from None
    problems = 0
    for finding in findings(store, tracking, wandb):
        problems += bool(finding.remedy)
        mark = "PROBLEM" if finding.remedy else "ok"
        click.echo(f"{mark:<8} {finding.what:<14} {one_line(finding.said, LONGEST)}")
        if finding.remedy:
            click.echo(f"{'':<23} -> {one_line(finding.remedy, LONGEST)}")
    click.echo(f"{problems} problem{'s' * (problems != 1)}" if problems else "nothing here would stop an experiment")
    sys.exit(FAILED if problems else 0)
