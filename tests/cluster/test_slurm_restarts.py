"""A job that gets no further is not put back into the queue for ever, and one that does is never given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster import slurm, slurm_restarts
from cluster.slurm_restarts import Far, Restarts, how_far
from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store

FILE = "x.yaml"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """How far the steps are, as the store says; nobody can tell where it has nothing."""
    monkeypatch.chdir(tmp_path)
    far: dict[str, float] = {}
    monkeypatch.setattr(slurm_restarts, "how_far", lambda words: dict(far) or None)
    return far


def start(number: int, monkeypatch: pytest.MonkeyPatch) -> Restarts:
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(number))
    return Restarts.begin("7", [FILE])


def test_three_starts_that_got_no_further_are_enough(stored: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    stored["model: steps"] = 10
    assert [start(number, monkeypatch).hopeless() for number in range(3)] == [False, False, True]
    assert start(3, monkeypatch).idle == slurm_restarts.MOST, "where Slurm itself put it back"


def test_what_is_reached_again_is_no_further_and_any_more_is(
    stored: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (reached, idle) in enumerate([(20, 0), (15, 1), (20, 2), (21, 0), (3, 1), (3, 2)]):
        stored["model: steps"] = reached
        assert start(number, monkeypatch).idle == idle
    starts = start(6, monkeypatch)
    assert starts.hopeless()
    stored["sweep: tokens"] = 1
    assert not starts.hopeless(), "another step has begun"


def test_a_store_that_does_not_answer_is_nobody_s_fault(
    stored: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        starts = start(number, monkeypatch)
        assert (starts.idle, starts.hopeless()) == (0, False)


def test_another_job_begins_anew(stored: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored["model: steps"] = 10
    for number in range(3):
        start(number, monkeypatch)
    assert start(0, monkeypatch).idle == 0, "a number that Slurm gave again"
    assert Restarts.begin("8", [FILE]).idle == 0
    (tmp_path / ".scaling-7.json").write_text("torn")
    starts = start(3, monkeypatch)
    assert starts.idle == 0
    starts.forget()
    starts.forget()
    assert [file.name for file in tmp_path.iterdir()] == [".scaling-8.json"]


@pytest.mark.processes
def test_the_store_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = {"words": {"job": "letters", "train": 10}, "more": {"job": "letters", "train": 20}}
    Path(FILE).write_text(yaml.safe_dump({"name": "x", "store": "runs", "steps": steps}))
    experiment, store = load(Path(FILE)), Store(tmp_path / "runs")
    words, more = plan(experiment, store)
    words.folder.create(words.identity)
    words.folder.mark_done()
    more.folder.create(more.identity)
    more.context(experiment, store).progress(7, 20, "traces, 3/9 files")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    names = [f"{each.step.name}-{each.fingerprint}" for each in (words, more)]
    expected: Far = {f"{names[0]}: done": 1.0, f"{names[1]}: done": 0.0, f"{names[1]}: traces": 7.0}
    assert how_far([FILE]) == expected
    assert how_far(["gone.yaml"]) is None


@pytest.fixture
def job(stored: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A job of one node whose Ray is up at once and whose run is stopped by the time limit; what it asks of Slurm."""
    asked = tmp_path / "asked"
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ "$1" = show ] && echo n1\nexit 0\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "7", "JOB_NODELIST": "n1", "JOB_CPUS_PER_NODE": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(slurm.SlurmJob, "start", lambda job, node: job.steps.update({node: _sleeping()}))
    monkeypatch.setattr(slurm.SlurmJob, "wait_for_head", lambda job: None)

    def limit(job: slurm.SlurmJob, experiment: subprocess.Popen[bytes], minutes: float | None) -> int:
        experiment.kill()
        experiment.wait()
        job.received.append(signal.SIGUSR1)
        return 143

    monkeypatch.setattr(slurm, "_watched", limit)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield asked
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


@pytest.mark.processes
def test_the_job_ends_with_one_line_instead_of_going_round(
    job: Path, stored: dict[str, float], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stored["model: steps"] = 10
    statuses = []
    for number in range(3):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(number))
        statuses.append(slurm.run([FILE], None))
    assert statuses == [143, 143, 1]
    assert job.read_text().count("requeue 7") == 2
    said = [line for line in capfd.readouterr().out.splitlines() if "got no further" in line]
    assert said == [
        "slurm job 7: 3 starts in a row got no further, so it is not put back into the queue: give it a longer --time "
        "than it takes to start (or checkpoint_every fewer steps), and submit the same again: it goes on from its store"
    ]
    assert not Path(".scaling-7.json").exists()


@pytest.mark.processes
@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 1)])
def test_a_job_that_is_stopped_while_its_head_starts_ends_what_it_started(
    job: Path,
    stored: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    requeued: int,
) -> None:
    scontrol = job.parent / "bin" / "scontrol"
    scontrol.write_text(scontrol.read_text().replace("echo n1", "echo n1 n2"))
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "2(x2)")
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(
        slurm.SlurmJob, "start", lambda job, node: started.append(job.steps.setdefault(node, _sleeping()))
    )
    monkeypatch.setattr(slurm.SlurmJob, "wait_for_head", lambda job: job.received.append(number))
    assert slurm.run([FILE], None) == 128 + number
    assert [each.poll() is not None for each in started] == [True]
    assert job.read_text().count("requeue 7") == requeued
    assert f"slurm job 7: {number.name}: stopping before the run has begun" in capfd.readouterr().out
