"""What a store has that nobody needs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from orchestrator.command_line import SET, Refused, prepare


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@SET
@click.option("--delete", is_flag=True, help="Delete what is listed. Without, nothing is touched.")
@click.option(
    "--unfinished", is_flag=True, help="Also steps that were begun, are not finished, and that no run works on."
)
def gc(files: tuple[Path, ...], overrides: tuple[str, ...], delete: bool, unfinished: bool) -> None:
    """List what the store has that no FILE needs: old steps, and their traces.

    Name every experiment that is to be kept: the store does not know of files. What live and unfinished steps of others
    take is kept anyhow.
    """
    prepared = [prepare(file, overrides) for file in files]
    stores = {str(store.root.absolute()): store for _, store, _ in prepared}
    if len(stores) > 1:
        named = ", ".join(stores)
        raise Refused(f"these experiments have {len(stores)} stores ({named}): name the experiments of one")
    from rich.filesize import decimal
    from rich.table import Table

    from orchestrator.display import console, show_table
    from orchestrator.garbage import unreachable

    (store,) = stores.values()
    garbage = list(unreachable(store, [step for _, _, planned in prepared for step in planned], unfinished))
    table = Table(title=f"not needed in {store.root}", title_justify="left")
    table.add_column("folder", overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("last changed")
    for item in garbage:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.changed)) if item.changed else ""
        table.add_row(item.within, decimal(item.size), when)
    if garbage:
        show_table(table, console())
    total = f"{len(garbage)} folders, {decimal(sum(item.size for item in garbage))}"
    if not delete:
        click.echo(f"{total}; nothing was deleted: --delete does")
        return
    for item in garbage:
        item.remove()
    click.echo(f"deleted {total}")
