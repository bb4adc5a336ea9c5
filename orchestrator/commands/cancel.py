"""Stopping a run, from any machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from orchestrator.command_line import FILE, SET, prepare

CANCEL_SECONDS = 60.0
"""Within which a run that was asked to stop has stopped: its next heartbeat, and the end of what it started."""


@click.command()
@FILE
@SET
def cancel(file: Path, overrides: tuple[str, ...]) -> None:
    """Stop a run of FILE, on whatever machine it is. What is done stays, and the same run command continues."""
    experiment, _, planned = prepare(file, overrides)
    holders = {lease.run: lease for item in planned if (lease := item.folder.live_lease()) is not None}
    if not holders:
        click.echo(f"{experiment.name}: nothing is running")
        return
    for item in planned:
        if lease := item.folder.live_lease():
            item.folder.request_cancel(lease.run)
    click.echo(f"{experiment.name}: asked {', '.join(map(str, holders.values()))} to stop")
    deadline = time.monotonic() + CANCEL_SECONDS
    while any((lease := item.folder.live_lease()) is not None and lease.run in holders for item in planned):
        if time.monotonic() > deadline:
            raise click.ClickException(f"it has not stopped within {CANCEL_SECONDS:.0f} s: see its log, or kill it")
        time.sleep(0.2)
    click.echo("stopped; the same run command continues")
