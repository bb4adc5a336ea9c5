"""How far each step is."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import click

from orchestrator.command_line import FILE, SET, prepare

WATCH_SECONDS = 2.0


@click.command()
@FILE
@SET
@click.option("--watch", is_flag=True, help="Look again every two seconds, until nothing runs any more.")
def status(file: Path, overrides: tuple[str, ...], watch: bool) -> None:
    """Show how far each step is, from the store alone: works while it runs, from any machine that sees the store."""
    experiment, store, planned = prepare(file, overrides)
    from rich.live import Live

    from orchestrator.display import console, show_table
    from orchestrator.plan import plan as make_plan
    from orchestrator.progress import running, table

    out = console()
    if not watch:
        show_table(table(experiment, planned), out)
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(table(experiment, planned), refresh=True)
            if not running(planned):
                return
            time.sleep(WATCH_SECONDS)
            planned = make_plan(experiment, store)
