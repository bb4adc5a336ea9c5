"""What would stop an experiment here is found before one is started, a line and a remedy for each."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.__main__ import main
from orchestrator.tracking import wandb_runs

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ORCHESTRATOR_STORE", "ORCHESTRATOR_WANDB", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10**12))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_a_machine_that_is_fine_is_said_to_be() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert all(line.startswith("ok ") for line in lines[:-1])
    names = [line.split()[1] for line in lines[:-1]]
    assert {"python", "packages", "GPUs", "store", "tracking", "hub", "disk", "ports", "cluster"} <= set(names)
    assert lines[-1] == "nothing here would stop an experiment"


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _full(patch: Patch) -> None:
    usage = shutil.disk_usage("/")
    patch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10**6))


def _old(patch: Patch, package: str) -> None:
    version = importlib.metadata.version
    patch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == package else version(name))


def _deaf(patch: Patch) -> None:
    def refuse(*address: object, **options: object) -> None:
        raise OSError(98, "Address already in use")

    patch.setattr(socket, "create_server", refuse)


def _without_wandb(patch: Patch) -> None:
    patch.setattr(wandb_runs, "LIBRARY", "wandb_that_nobody_has")
    patch.setenv("ORCHESTRATOR_WANDB", "offline")


PROBLEMS: dict[str, tuple[Callable[[Patch], object], str, str]] = {
    "torch": (lambda patch: _old(patch, "torch"), "packages", "torch is 0.1, and ==2.13.0 is asked for"),
    "ray": (lambda patch: _old(patch, "ray"), "packages", "ray is 0.1, and ==2.60.0 is asked for"),
    "ports": (_deaf, "ports", "127.0.0.1: [Errno 98] Address already in use"),
    "wandb": (_without_wandb, "wandb", "offline: the package wandb_that_nobody_has is not installed"),
    "store": (lambda patch: patch.setenv("ORCHESTRATOR_STORE", "/proc/nowhere"), "store", "/proc/nowhere"),
    "tracking": (
        lambda patch: patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere.db"),
        "tracking",
        "sqlite:////proc/nowhere.db: ",
    ),
    "disk": (_full, "disk", "1.0 MB free"),
    "cluster": (
        lambda patch: patch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{free()}"),
        "cluster",
        "does not answer",
    ),
    "sockets": (lambda patch: patch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 90), "ports", "RAY_TMPDIR"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_problem_is_one_line_with_its_remedy(problem: str, monkeypatch: Patch) -> None:
    make, what, said = PROBLEMS[problem]
    make(monkeypatch)
    result = run()
    assert result.exit_code == 1
    lines = result.output.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith(f"PROBLEM  {what} ")]
    assert said in lines[place]
    assert lines[place + 1].strip().startswith("-> ")
    assert "problem" in lines[-1]


def test_no_token_is_no_problem_and_is_said(monkeypatch: Patch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    result = run()
    assert result.exit_code == 0
    assert "no token: what is public can be had; for the rest, hf auth login or HF_TOKEN" in result.output


def test_passwords_are_not_said(monkeypatch: Patch) -> None:
    monkeypatch.setattr("orchestrator.tracking.tracker.ANSWER_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free()}")
    result = run()
    assert result.exit_code == 1
    assert "secret" not in result.output


def test_an_experiments_own_places_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: x\nstore: elsewhere\nsteps:\n  a: {job: letters, train: 1}\n")
    result = run("mine.yaml")
    assert result.exit_code == 0, result.output
    assert "elsewhere can be written" in result.output
    assert run("gone.yaml").exit_code == 2
