"""How far each step is."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import click

from orchestrator.command_line import FILE, SET, Refused, prepare

WATCH_SECONDS = 2.0


@click.command()
@FILE
@SET
@click.option("--watch", is_flag=True, help="Look again every two seconds, until nothing runs any more.")
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON, for programs.")
def status(file: Path, overrides: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """Show how far each step is, from the store alone: works while it runs, from any machine that sees the store."""
    if watch and as_json:
        raise Refused("--watch: it is for people: leave it out, or --json")
    experiment, store, planned = prepare(file, overrides)
    if as_json:
        from orchestrator.progress import records

        click.echo(json.dumps({"experiment": experiment.name, "steps": records(planned)}, indent=1))
        return
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
