"""The schema of experiment files, for editors."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of experiment files, with which editors complete keys and mark errors.

    An editor finds it by the file's line `# yaml-language-server: $schema=PATH`.
    """
    import json

    from orchestrator.schema import schema as made

    click.echo(json.dumps(made(), indent=1, ensure_ascii=False))
