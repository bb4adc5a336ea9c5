"""Markdown on a terminal: tables are drawn. In a pipe or a log it is left as it is, a row a line, for ``grep``."""

from __future__ import annotations

import click

from orchestrator.display import console
from orchestrator.terminal import plain


def show(text: str) -> None:
    """Shows Markdown that was written from results: its text is users' and models', so it is made :func:`plain`."""
    out = console()
    if out.is_terminal:
        from rich.markdown import Markdown

        out.print(Markdown(plain(text), hyperlinks=False))
    else:
        click.echo(plain(text))
