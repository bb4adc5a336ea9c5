"""What to do with a model for how much: the frontier of everything that finished sweeps can answer."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.command_line import SET, Refused, prepare


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@SET
@click.option(
    "--tokens",
    "budgets",
    multiple=True,
    metavar="N",
    type=click.FloatRange(min=1),
    help="What to do for N tokens a question. Default: what each point of the frontier takes.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plot here: a page (.html), or a picture of accuracy over tokens (.png).",
)
def frontier(
    files: tuple[Path, ...], overrides: tuple[str, ...], budgets: tuple[float, ...], plot: Path | None
) -> None:
    """Show what is worth its cost: accuracy over tokens, latency and dollars.

    Of all that the finished sweeps of FILE... can answer, those of one model on one task together. Nothing is decoded.
    """
    prepared = [prepare(file, overrides) for file in files]
    from orchestrator.finished import finished_step
    from orchestrator.job.errors import StepError
    from orchestrator.job.record import FrontierRequest
    from orchestrator.markdown_view import show
    from orchestrator.registry import JOBS
    from orchestrator.store.records import DamagedRecord

    if plot is not None and not plot.absolute().parent.is_dir():
        raise Refused(f"--plot: {plot.absolute().parent} is no folder: give a file in one")
    done = {
        step.fingerprint: (step, experiment, store)
        for experiment, store, planned in prepared
        for step in planned
        if JOBS[step.step.kind].frontier and step.verdict == "done"
    }
    if not done:
        raise Refused(f"frontier: no sweep of {', '.join(map(str, files))} is finished: run it first")
    kinds = {step.step.kind for step, _, _ in done.values()}
    try:
        for kind in kinds:
            find = JOBS[kind].frontier
            assert find is not None, "only kinds that have one are here"
            steps = [finished_step(*each) for each in done.values() if each[0].step.kind == kind]
            show(find(steps, FrontierRequest(budgets, plot)).rstrip())
    except (StepError, DamagedRecord) as error:
        raise Refused(str(error)) from None
