"""Completion in the shells that it is printed for, typed as one types. Needs bash, zsh and fish."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.evaluate.attempts.pseudo_terminal import terminal

TYPED = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
BEFORE = {"bash": "", "zsh": "autoload -Uz compinit && compinit -u -D; "}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With the command, as an installed wheel has it."""
    script = tmp_path / "bin" / "scaling"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom orchestrator.__main__ import main\nsys.exit(main())\n")
    script.chmod(0o755)
    (tmp_path / "mine.yaml").touch()
    path = f"{script.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PS1": "$ ", "PROMPT": "$ "}


@pytest.mark.parametrize("shell", TYPED)
def test_a_tab_completes_commands_and_options(shell: str, environment: dict[str, str], tmp_path: Path) -> None:
    with terminal(TYPED[shell], tmp_path, environment) as typed:
        typed.type(f"{BEFORE[shell]}source <(scaling completion {shell}); echo rea''dy\n")
        typed.expect("ready\n")
        typed.type("scaling pl\t")
        typed.expect("scaling plan")
        typed.type("--deta\t")
        typed.expect("--detailed-exitcode")
        typed.type("mi\t")
        typed.expect("mine.yaml")


def test_fish_completes_commands_and_options(environment: dict[str, str], tmp_path: Path) -> None:
    for line, said in (
        ("scaling pl", "plan"),
        ("scaling plan --deta", "--detailed-exitcode"),
        ("scaling plan mi", "mine"),
    ):
        command = ["fish", "--no-config", "-c", f"scaling completion fish | source; complete -C '{line}'"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert said in done.stdout, done.stderr
