"""A folder with one experiment, the command line run in it as users run it, and what its processes leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from tests.conftest import ROOT

T = TypeVar("T")

TEXT = """
name: words
steps:
  letters:
    job: letters
    train: {train}
"""

SLOW = 4_000_000
"""Traces that take the letters step half a minute or more: time to do something to it."""


class Workplace:
    """A folder with one experiment, and the command line to run in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "words.yaml"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for name in ("RAY_ADDRESS", "ORCHESTRATOR_STORE", "MLFLOW_TRACKING_URI"):
            self.environment.pop(name, None)
        self.started: list[subprocess.Popen[str]] = []

    def write(self, train: int, more: str = "") -> None:
        self.file.write_text(TEXT.format(train=train) + more)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=200)
        return process.returncode, output

    def step(self, name: str = "letters") -> Path:
        """The folder of that step, once there is one."""
        return wait_for(lambda: next((self.folder / "runs").glob(f"{name}-*/"), None))

    def status(self) -> dict[str, object]:
        return json.loads((self.step() / "status.json").read_text())

    def wait_until_generating(self, run: subprocess.Popen[str]) -> psutil.Process:
        """The process that generates, once it has said how far it is."""
        wait_for(lambda: (self.step() / "progress.json").exists() and run.poll() is None)
        return wait_for(lambda: next((p for p in descendants(run) if "_run_step" in name_of(p)), None))


def wait_for(look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("waited 200 s in vain")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
