"""A page on everything that is done."""

from __future__ import annotations

import shlex
import webbrowser
from pathlib import Path

import click

from orchestrator.command_line import Refused


@click.command()
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), default="board", help="The folder. Default: board.")
@click.option(
    "--against", metavar="STEP", help="Compare all with this sweep's natural end. Default: each task's most accurate."
)
@click.option("--open", "opened", is_flag=True, help="Show it in a browser.")
def board(stores: tuple[str, ...], folder: Path, against: str | None, opened: bool) -> None:
    """Write a board of every finished sweep of one or several stores: folders, or buckets (s3://…).

    It is a folder of static files that can be published as it is: reports in it have no samples of tasks whose
    questions may not be passed on. Writing it again reads what is new.
    """
    from orchestrator.board import write
    from orchestrator.job.errors import StepError

    options = ["--to", str(folder)] + ([] if against is None else ["--against", against])
    command = shlex.join(["python", "-m", "orchestrator", "board", *stores, *options])
    try:
        line = write(stores, folder, command, against)
    except StepError as error:
        raise Refused(str(error)) from None
    page = folder / "index.html"
    click.echo(f"{line}: {page}")
    if opened:
        webbrowser.open(page.absolute().as_uri())
