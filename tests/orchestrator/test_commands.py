"""Commands are found as files, and come at no cost until they are called."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator import commands
from orchestrator.__main__ import main

LIGHT = {"click", "orchestrator.command_line", "orchestrator.terminal"}
FILES = sorted(file for folder in commands.__path__ for file in Path(folder).glob("[!_]*.py"))

NEW = """
import click

@click.command("import")
@click.argument("question")
def import_(question):
    "Ask one question."
    click.echo(f"asked {question}")
"""


def test_a_command_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "import_.py").write_text(NEW)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    listed = CliRunner().invoke(main, ["--help"]).output
    assert "import Ask one question." in [" ".join(line.split()) for line in listed.splitlines()]
    assert CliRunner().invoke(main, ["import", "why"]).output == "asked why\n"
    monkeypatch.delitem(sys.modules, f"{commands.__name__}.import_")


def test_what_is_no_command_is_refused() -> None:
    refused = CliRunner().invoke(main, ["__init__"])
    assert refused.exit_code == 2
    assert "No such command '__init__'" in refused.output


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_only_what_is_light_is_imported_before_a_command_is_called(file: Path) -> None:
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    assert {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names} <= LIGHT
