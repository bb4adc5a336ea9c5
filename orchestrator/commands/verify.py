"""Whether what is finished is whole, to the last byte."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.command_line import FAILED, FILE, SET, prepare


@click.command()
@FILE
@SET
def verify(file: Path, overrides: tuple[str, ...]) -> None:
    """Read all of what FILE's finished steps wrote, whatever its size, and say of each step whether it is whole.

    Other commands read files up to 16 MiB when they look a step up, and go by the sizes of larger ones.
    """
    _, _, planned = prepare(file, overrides)
    from rich.filesize import decimal

    from orchestrator.notes import look_at_notes
    from orchestrator.store.records import DamagedRecord

    damaged = False
    for item in planned:
        look_at_notes(item.folder)
        try:
            files, size = item.folder.verify()
        except DamagedRecord as error:
            damaged = True
            click.echo(f"{item.step.name}: damaged: {error}; run makes it again")
            continue
        try:
            files += item.folder.verify_tracked()
        except DamagedRecord as error:
            damaged = True
            click.echo(f"{item.step.name}: damaged: {error}; its output is whole, and MLflow is told no more of it")
        else:
            click.echo(f"{item.step.name}: {f'whole, {files} files, {decimal(size)}' if files else 'not finished'}")
    sys.exit(FAILED if damaged else 0)
