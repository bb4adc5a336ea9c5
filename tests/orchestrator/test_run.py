"""Whole runs in processes of their own, on a real local Ray cluster: what a user sees, and what failures leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store import Store

ROOT = Path(__file__).parents[2]

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

    def step(self) -> Path:
        """The folder of the letters step, once there is one."""
        return wait_for(lambda: next((self.folder / "runs").glob("letters-*/"), None))

    def status(self) -> dict[str, object]:
        return json.loads((self.step() / "status.json").read_text())

    def wait_until_generating(self, run: subprocess.Popen[str]) -> psutil.Process:
        """The process that generates, once it has said how far it is."""
        wait_for(lambda: (self.step() / "progress.json").exists() and run.poll() is None)
        return wait_for(lambda: next((p for p in descendants(run) if "_run_step" in name_of(p)), None))


def wait_for(look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("waited 60 s in vain")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path)
    yield workplace
    for process in workplace.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_run_finishes_and_the_next_has_nothing_to_do(workplace: Workplace) -> None:
    workplace.write(1000)
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    assert "letters: would run (not in the store)" in output
    assert "letters: done in" in output
    lines = (workplace.step() / "output" / "train.jsonl").read_text().splitlines()
    assert len(lines) == 1000
    code, output = workplace.run("run", "words.yaml")
    assert code == 0
    assert "everything is done, nothing to run" in output
    assert "done" in workplace.run("status", "words.yaml")[1]
    assert workplace.status()["state"] == "done"
    assert not (workplace.step() / "claim.json").exists()


def test_a_step_that_fails_is_reported_with_its_log_and_what_needs_it_is_not_run(workplace: Workplace) -> None:
    workplace.write(1000, "  tiny:\n    job: finetune\n    model: {random: qwen2, layers: 1, hidden_size: 64}\n")
    workplace.file.write_text(workplace.file.read_text() + "    data: ${letters}\n")
    plan = workplace.run("plan", "words.yaml")[1]
    fingerprint = next(word for word in plan.split() if len(word) == 16 and set(word) <= set("0123456789abcdef"))
    (workplace.folder / "runs" / f"letters-{fingerprint}" / "output" / "train.jsonl").mkdir(parents=True)
    code, output = workplace.run("run", "words.yaml")
    assert code == 1
    assert "letters: user error: IsADirectoryError" in output
    assert "tiny: not run: letters failed" in output
    assert workplace.status()["state"] == "failed"
    code, status = workplace.run("status", "words.yaml")
    assert "failed" in status
    assert "skipped" in status


def test_a_killed_worker_is_restarted(workplace: Workplace) -> None:
    workplace.write(SLOW // 10)
    run = workplace.start("run", "words.yaml")
    workplace.wait_until_generating(run).kill()
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert "letters: infrastructure: WorkerCrashedError" in output
    assert "restart 1 (infrastructure 1 of 3)" in output
    assert workplace.status()["attempt"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_running_and_continues(workplace: Workplace, number: signal.Signals) -> None:
    workplace.write(SLOW)
    run = workplace.start("run", "words.yaml")
    workplace.wait_until_generating(run)
    children = descendants(run)
    run.send_signal(number)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + number, output
    assert "the same command continues" in output
    assert "Traceback" not in output
    wait_for(lambda: all_gone(children))
    assert workplace.status()["state"] == "cancelled"
    assert not (workplace.step() / "claim.json").exists()
    assert not (workplace.step() / "done.json").exists()
    reason = plan(load(workplace.file), Store(workplace.folder / "runs"))[0].reason
    assert reason.startswith("continues what cancelled left, ")
    assert reason.endswith(f" of {SLOW:,} traces")


def test_a_second_run_stays_away_from_a_live_one_and_takes_over_from_a_dead_one(workplace: Workplace) -> None:
    workplace.write(SLOW // 10)
    first = workplace.start("run", "words.yaml")
    workplace.wait_until_generating(first)
    children = descendants(first)
    working = {child.pid for child in children if "raylet" in name_of(child) or "_run_step" in name_of(child)}
    code, output = workplace.run("run", "words.yaml")
    assert code == 2
    assert "is being worked on by run" in output
    assert "running" in workplace.run("status", "words.yaml")[1]
    first.kill()
    first.communicate()
    # Ray's per-node agents notice a dead driver only after a minute; the work ends with it.
    wait_for(lambda: all_gone([child for child in children if child.pid in working]))
    assert "interrupted" in workplace.run("status", "words.yaml")[1]
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    assert "continues what running left" in output


def test_a_step_over_its_timeout_is_stopped(workplace: Workplace) -> None:
    workplace.write(SLOW, "    resources: {timeout: 3}\n")
    code, output = workplace.run("run", "words.yaml")
    assert code == 1
    assert "letters: timeout: took longer than its timeout of 3 s (resources.timeout)" in output


def test_a_store_that_cannot_be_written_is_refused_before_anything_starts(workplace: Workplace) -> None:
    workplace.write(1000)
    (workplace.folder / "runs").touch()
    code, output = workplace.run("run", "words.yaml")
    assert code == 2
    assert "cannot be written" in output
    assert len(output.splitlines()) == 1
