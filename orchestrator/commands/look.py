"""What steps would work on, before they run."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.command_line import FILE, SET, Refused, prepare
from orchestrator.terminal import plain


@click.command()
@FILE
@SET
@click.option("--step", "name", help="Only this step.")
def look(file: Path, overrides: tuple[str, ...], name: str | None) -> None:
    """Show what steps would work on: data to learn from, and what of it is learned; the prompts of a sweep."""
    experiment, store, planned = prepare(file, overrides, starts=True)
    from orchestrator.job.errors import StepError
    from orchestrator.registry import JOBS

    chosen = [(item, JOBS[item.step.kind].look) for item in planned if name in (None, item.step.name)]
    looks = [(item, look) for item, look in chosen if look is not None]
    if not looks:
        which = ", ".join(kind for kind in JOBS if JOBS[kind].look)
        raise Refused(f"{file}: no step {name or ''} that can be looked at before it runs: look is for {which}")
    outputs = {item.step.name: item for item in planned}
    for item, look in looks:
        if waiting := [target for target in item.inputs if outputs[target].verdict != "done"]:
            line = f"{item.step.name}: takes the output of {', '.join(waiting)}, not there yet: run it first"
            if item is looks[0][0]:
                raise Refused(line)
            click.echo(line)
            continue
        try:
            text = look(item.step.config, item.context(experiment, store))
        except StepError as error:
            raise Refused(f"{item.step.name}: {error}") from None
        click.echo(f"{item.step.name}\n{plain(text)}\n")
