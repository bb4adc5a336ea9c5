"""A page on what is done."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.command_line import FAILED, FILE, SET, Refused, prepare

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment
    from orchestrator.store.step_folders import Store

MOST_MEGABYTES = 10_000.0


class _Megabytes(click.FloatRange):
    """A size that a page can have. Click's own range lets through what is not a number."""

    def __init__(self) -> None:
        super().__init__(min=0, max=MOST_MEGABYTES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click.BadParameter."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number: give megabytes from 0 to {MOST_MEGABYTES:,.0f}", param, ctx)
        return number


@click.command()
@FILE
@SET
@click.option("--item", "items", multiple=True, metavar="ID", help="Show all samples of this item, with their traces.")
@click.option("--megabytes", type=_Megabytes(), help="Room for traces in the page. Default: 4.")
@click.option("--follow", is_flag=True, help="Serve a page on what runs, which refreshes by itself, until Ctrl-C.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of the page that follows. Default: a free one.")
def report(
    file: Path,
    overrides: tuple[str, ...],
    items: tuple[str, ...],
    megabytes: float | None,
    follow: bool,
    port: int | None,
) -> None:
    """Write a page on what is done (curves, costs, every sample), and show its tables.

    The page is one HTML file without any network, beside the same in Markdown; MLflow gets it too. With --follow it is
    on what runs now, served to this machine alone: progress, cost, losses, and curves as they fill in.
    """
    experiment, store, planned = prepare(file, overrides)
    if follow:
        _follow(experiment, store, port)
        return
    from orchestrator.display import console
    from orchestrator.job.errors import StepError
    from orchestrator.reporting import command, write_reports
    from orchestrator.results_view import show_results
    from orchestrator.tracking.mirror import Mirror

    if any(step.verdict == "done" for step in planned):
        store.check_writable()
    try:
        pages = write_reports(experiment, store, planned, command(file, overrides), items, megabytes)
    except StepError as error:
        raise Refused(str(error)) from None
    mirror = Mirror(experiment, console())
    for step in planned:
        mirror.catch_up(step)
    show_results(planned, pages)
    if undone := [step for step in planned if step.verdict != "done"]:
        click.echo(f"not done, so not in it: {', '.join(step.step.name for step in undone)}")
        for step in undone:
            if step.reason.startswith("damaged"):
                click.echo(f"{step.step.name}: {step.reason}; run makes it again")
        sys.exit(FAILED)


def _follow(experiment: Experiment, store: Store, port: int | None) -> None:
    """Serves the page that follows, until Ctrl-C."""
    from orchestrator.live.page import render
    from orchestrator.live.server import keep_up, served
    from orchestrator.live.snapshot import Watch

    watch = Watch(experiment, store)
    try:
        first = render(watch.look(sections=False))
        with served(first, lambda: render(watch.look()), port or 0) as (address, refresh):
            click.echo(f"{experiment.name}: {address}")
            with suppress(KeyboardInterrupt):
                keep_up(refresh)
    except OSError as error:
        if port is None:
            raise
        raise Refused(
            f"--port: {port} cannot be listened on: {error.strerror}: give another, or leave it out"
        ) from None
