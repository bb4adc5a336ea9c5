"""What commands share: exit status, arguments, how bad input is refused, and the checked experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.terminal import plain

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment
    from orchestrator.plan import PlannedStep
    from orchestrator.store.step_folders import Store

FAILED, BAD_INPUT, OVER_COST, WOULD_RUN = 1, 2, 3, 4

FILE = click.argument("file", type=click.Path(path_type=Path))

SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value: steps.sweep.budgets='[16,32]'."
)


def called() -> str:
    """How this program is called here: by the command that a wheel brings, or as a module."""
    context = click.get_current_context(silent=True)
    return "scaling" if context and context.find_root().info_name == "scaling" else "python -m orchestrator"


class Refused(click.ClickException):
    """Bad input: one line for each thing that is wrong, exit status 2."""

    exit_code = BAD_INPUT

    def show(self, file: object = None) -> None:
        click.echo(plain(self.message), err=True)


def prepare(
    file: Path, overrides: tuple[str, ...], starts: bool = False
) -> tuple[Experiment, Store, list[PlannedStep]]:
    """The checked experiment and its plan; exits with status 2 and a line per problem otherwise.

    For what `starts` steps, or says what that would do, all of the user's own data is read, and the hub is asked
    whether it has what is to be had there.
    """
    from orchestrator.complaints import ExperimentError
    from orchestrator.experiment import load
    from orchestrator.preflight import checked

    try:
        experiment = load(file, overrides, contents=starts)
        store, planned = checked(experiment, starts)
    except ExperimentError as error:
        raise Refused(str(error)) from None
    return experiment, store, planned
