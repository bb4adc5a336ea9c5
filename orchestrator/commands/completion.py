"""Completion of commands, options and files in a shell."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete `scaling`.

    \b
    bash: scaling completion bash > ~/.local/share/bash-completion/completions/scaling
    zsh:  scaling completion zsh > a file _scaling in a folder of $fpath
    fish: scaling completion fish > ~/.config/fish/completions/scaling.fish
    """
    from click.shell_completion import get_completion_class

    from orchestrator.__main__ import main

    completion_class = get_completion_class(shell)
    assert completion_class is not None
    click.echo(completion_class(main, {}, "scaling", "_SCALING_COMPLETE").source())
