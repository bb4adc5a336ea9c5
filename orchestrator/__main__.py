"""The command line: finds the command, and says in one line what no command could go on from.

Exit status: 0 finished, 1 a step failed, 2 bad input and nothing started, 3 stopped by max_cost, 4 steps would run
(only where that is asked), 130 or 143 interrupted.
"""

from __future__ import annotations

import errno
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from orchestrator import commands
from orchestrator.command_line import Refused
from orchestrator.job.controllers import this_process_controls
from orchestrator.store.errors import StoreError, StoreLost, no_space

_OF_PATHS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ENXIO),
    *(errno.EISDIR, errno.ENOTDIR),
)
"""What a file system answers about a path that someone gave, and no mistake of the program's."""


def _modules() -> dict[str, str]:
    """Their names, by those of their commands."""
    return {module.name.removesuffix("_").replace("_", "-"): module.name for module in iter_modules(commands.__path__)}


class _Commands(click.Group):
    """Commands that are imported when they are called.

    They say in one line that the store cannot be used or a disk is full, whichever of them met it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (name := _modules().get(cmd_name)) is None:
            return None
        command: click.Command = getattr(import_module(f"{commands.__name__}.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreLost as error:
            raise click.ClickException(str(error)) from None
        except StoreError as error:
            raise Refused(str(error)) from None
        except OSError as error:
            if (full := no_space(error)) is not None:
                raise click.ClickException(full) from None
            if error.errno not in _OF_PATHS or not error.filename:
                raise
            raise Refused(f"{error.filename}: {error.strerror}") from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Test-time-scaling experiments: fine-tune, decode a sweep in one pass, compare curves in MLflow.

    FILE is an experiment, such as experiments/scaling_sweep.yaml.
    """


def program() -> None:
    """The command line as a process of its own."""
    this_process_controls()
    main()


if __name__ == "__main__":
    program()
