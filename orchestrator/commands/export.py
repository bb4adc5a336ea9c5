"""Results in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.command_line import FILE, SET, Refused, prepare


@click.command()
@FILE
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@SET
@click.option(
    "--to",
    "formats",
    multiple=True,
    metavar="FORMAT",
    help="inspect, lm-eval, csv, latex, pdf, svg, model-card; several may be given. Default: all.",
)
def export(file: Path, folder: Path, overrides: tuple[str, ...], formats: tuple[str, ...]) -> None:
    """Write what is done to FOLDER for other tools: logs of Inspect, results of lm-evaluation-harness, tables and plots
    for a paper, a model's card.

    Samples are exported with their questions: pass them on as their benchmark's terms allow.
    """
    experiment, store, planned = prepare(file, overrides)
    from orchestrator import exporting
    from orchestrator.job.errors import StepError

    try:
        written = exporting.export(experiment, store, planned, formats or exporting.formats(), folder)
    except StepError as error:
        raise Refused(str(error)) from None
    for each in written:
        click.echo(f"{each}: {sum(file.is_file() for file in each.rglob('*'))} files")
