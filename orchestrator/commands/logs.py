"""What a step's processes said."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from orchestrator.command_line import FILE, SET, Refused, prepare


@click.command()
@FILE
@click.argument("step")
@SET
@click.option("--follow", is_flag=True, help="Go on while the step runs.")
def logs(file: Path, step: str, overrides: tuple[str, ...], follow: bool) -> None:
    """Show what the processes of STEP said: controller, ranks, replicas."""
    _, _, planned = prepare(file, overrides)
    planned_step = next((item for item in planned if item.step.name == step), None)
    if planned_step is None:
        names = [item.step.name for item in planned]
        raise Refused(f"{step!r} is not a step of {file}: it has {', '.join(names[:20])}{', …' * (len(names) > 20)}")
    from orchestrator.logs import follow as lines
    from orchestrator.store.storage import storage_of

    if not storage_of(planned_step.folder.logs).files():
        raise Refused(f"{step}: nothing was logged, because it never ran as it is written now")
    with suppress(KeyboardInterrupt):
        for process, line in lines(
            planned_step.folder.logs, lambda: not follow or planned_step.folder.live_lease() is None
        ):
            click.echo(f"{process} | {line}")
