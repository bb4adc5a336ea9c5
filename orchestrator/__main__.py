"""The command line. Thin: each verb parses, checks the experiment, and imports what it needs only then.

Exit status: 0 finished, 1 a step failed, 2 bad input and nothing started, 130 or 143 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.display import Display
    from orchestrator.experiment import Experiment
    from orchestrator.mirror import Mirror
    from orchestrator.plan import PlannedStep
    from orchestrator.store import Store

FAILED, BAD_INPUT = 1, 2


class _Refused(click.ClickException):
    """Bad input: one line for each thing that is wrong, exit status 2."""

    exit_code = BAD_INPUT

    def show(self, file: object = None) -> None:
        click.echo(self.message, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Test-time-scaling experiments: fine-tune, decode a sweep in one pass, compare curves in MLflow.

    FILE is an experiment, such as experiments/scaling_sweep.yaml.
    """


_file = click.argument("file", type=click.Path(path_type=Path))
_set = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value: steps.sweep.budgets='[16,32]'."
)


@main.command()
@_file
@_set
def run(file: Path, overrides: tuple[str, ...]) -> None:
    """Run what is not done, then show the result.

    On the cluster that RAY_ADDRESS names (as in a Ray job), else on a local one for this run alone.
    """
    experiment, store, planned = _prepare(file, overrides)
    from orchestrator.display import Display, console
    from orchestrator.mirror import Mirror
    from orchestrator.store import StoreError

    out = console()
    for note in experiment.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    try:
        store.check_writable()
        with Mirror(experiment, out) as mirror, Display(out) as display:
            if all(step.verdict == "done" for step in planned):
                display.say(f"{experiment.name}: everything is done, nothing to run")
                finished = True
            else:
                finished = _execute(experiment, store, planned, display, mirror)
            for step in planned:
                mirror.catch_up(step)
    except StoreError as error:
        raise _Refused(str(error)) from None
    _show_results(planned)
    serve = "" if experiment.tracking.startswith("http") else " (after: make mlflow)"
    click.echo(f"MLflow: {mirror.page}{serve}" if mirror.page else f"MLflow: {experiment.tracking}")
    sys.exit(0 if finished else FAILED)


def _execute(
    experiment: Experiment, store: Store, planned: list[PlannedStep], display: Display, mirror: Mirror
) -> bool:
    """Runs what is not done; exits with 128 and the signal's number when told to stop."""
    for step in planned:
        display.say(f"{step.step.name}: {step.verdict}{f' ({step.reason})' if step.reason else ''}")
    from orchestrator import executor

    try:
        return executor.run(experiment, store, planned, display, mirror)
    except executor.Interrupted as interruption:
        display.say(f"interrupted ({interruption}); the same command continues")
        sys.exit(128 + interruption.signal_number)


@main.command()
@_file
@_set
def plan(file: Path, overrides: tuple[str, ...]) -> None:
    """Show each step: done or would run, why, and what it would take."""
    experiment, _, planned = _prepare(file, overrides)
    from rich.table import Table

    from orchestrator.display import console

    table = Table(title=f"{experiment.name} · store {experiment.store}", title_justify="left")
    for column in ("step", "job", "fingerprint", "plan", "why", "what", "resources"):
        table.add_column(column, overflow="fold")
    for item in planned:
        config = item.step.config
        needs = _bundles(config.demands())
        table.add_row(
            item.step.name, item.step.kind, item.fingerprint, item.verdict, item.reason, config.describe(), needs
        )
    out = console()
    for note in experiment.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    out.print(table)


@main.command()
@_file
@_set
def status(file: Path, overrides: tuple[str, ...]) -> None:
    """Show how far each step is, from the store alone: works while it runs, from any machine that sees the store."""
    experiment, _, planned = _prepare(file, overrides)
    from rich.table import Table

    from orchestrator.display import console
    from orchestrator.progress import look

    table = Table(title=f"{experiment.name} · store {experiment.store}", title_justify="left")
    for column in ("step", "state", "progress", "elapsed", "ETA", "note"):
        table.add_column(column, overflow="fold")
    for item in planned:
        view = look(item)
        table.add_row(item.step.name, view.state, view.progress, view.elapsed, view.eta, view.note)
    console().print(table)


@main.command()
@_file
@_set
def grade(file: Path, overrides: tuple[str, ...]) -> None:
    """Grade what is done once more, decoding nothing, and show which verdicts changed.

    Tables, curves and MLflow then say what the graders of this version say.
    """
    experiment, store, planned = _prepare(file, overrides)
    from orchestrator import grade as grading
    from orchestrator.display import console
    from orchestrator.mirror import Mirror
    from orchestrator.store import StoreError

    out = console()
    try:
        with Mirror(experiment, out) as mirror:
            finished = grading.grade(experiment, store, planned, out, mirror)
    except StoreError as error:
        raise _Refused(str(error)) from None
    sys.exit(0 if finished else FAILED)


@main.command()
@_file
@_set
def report(file: Path, overrides: tuple[str, ...]) -> None:
    """Show the tables of what is done, and where its plots and samples are."""
    _, _, planned = _prepare(file, overrides)
    _show_results(planned)
    sys.exit(0 if all(step.verdict == "done" for step in planned) else FAILED)


def _prepare(file: Path, overrides: tuple[str, ...]) -> tuple[Experiment, Store, list[PlannedStep]]:
    """The checked experiment and its plan; exits with status 2 and a line per problem otherwise."""
    from orchestrator.experiment import ExperimentError, load
    from orchestrator.plan import plan as make_plan
    from orchestrator.store import Store

    try:
        experiment = load(file, overrides)
    except ExperimentError as error:
        raise _Refused(str(error)) from None
    store = Store(Path(experiment.store))
    return experiment, store, make_plan(experiment, store)


def _bundles(demands: list[dict[str, float]]) -> str:
    """``2 x {CPU: 1}``."""
    texts = ["{" + ", ".join(f"{name}: {amount:g}" for name, amount in demand.items()) + "}" for demand in demands]
    return ", ".join(f"{texts.count(text)} x {text}" for text in dict.fromkeys(texts))


def _show_results(planned: list[PlannedStep]) -> None:
    for item in planned:
        table = item.folder.output / "table.md"
        if item.folder.path.joinpath("done.json").exists() and table.exists():
            click.echo(f"\n{table.read_text().rstrip()}\n")
            click.echo(f"{item.step.name}: plots, table and samples in {item.folder.output}")


if __name__ == "__main__":
    main()
