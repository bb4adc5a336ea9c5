"""What finished steps would have come to under other rules."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.command_line import FAILED, FILE, SET, Refused, prepare


@click.command()
@FILE
@click.argument("step", required=False)
@SET
@click.option(
    "--rules", metavar="YAML", help="Instead of the step's own: '[oracle, {rule: convergence, agree: [2, 3]}]'."
)
def replay(file: Path, step: str | None, overrides: tuple[str, ...], rules: str | None) -> None:
    """Show what stopping rules would have come to on what finished sweeps have: nothing is decoded, or changed."""
    experiment, store, planned = prepare(file, overrides)
    from orchestrator.job.errors import StepError
    from orchestrator.markdown_view import show
    from orchestrator.registry import JOBS
    from orchestrator.store.records import DamagedRecord

    able = [item for item in planned if JOBS[item.step.kind].replay is not None]
    chosen = [item for item in able if step in (None, item.step.name)]
    if not chosen:
        names = ", ".join(item.step.name for item in able)
        raise Refused(f"{file}: no step {step or ''} to replay rules on: there {f'is {names}' if names else 'is none'}")
    failed = False
    for item in chosen:
        if item.verdict != "done":
            failed = True
            click.echo(f"{item.step.name}: is not done, so there is nothing to replay: run it first", err=True)
            continue
        rule = JOBS[item.step.kind].replay
        assert rule is not None, "only steps that can be replayed are chosen"
        try:
            text = rule(item.step.config, item.context(experiment, store), rules)
        except (StepError, DamagedRecord) as error:
            raise Refused(f"{item.step.name}: {error}") from None
        click.echo(item.step.name)
        show(text.rstrip())
    sys.exit(FAILED if failed else 0)
