"""Whole runs in processes of their own, on a real local Ray cluster: what a user sees, and what failures leave."""

from __future__ import annotations

import signal

import pytest

from orchestrator.executor import SHARED_PROCESSES
from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.orchestrator.workplace import SLOW, Workplace, all_gone, descendants, name_of, wait_for


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
    assert not list((workplace.step() / "leases").glob("*.json"))


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
    output, _ = run.communicate(timeout=200)
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
    output, _ = run.communicate(timeout=200)
    assert run.returncode == 128 + number, output
    assert "the same command continues" in output
    assert "Traceback" not in output
    wait_for(lambda: all_gone(children))
    assert workplace.status()["state"] == "cancelled"
    assert not list((workplace.step() / "leases").glob("*.json"))
    assert not (workplace.step() / "done.json").exists()
    reason = plan(load(workplace.file), Store(workplace.folder / "runs"))[0].reason
    assert reason.startswith("continues what a cancelled run left, ")
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
    assert "continues what an earlier run left" in output


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


def test_short_steps_share_a_few_processes_and_each_has_its_own_log(workplace: Workplace) -> None:
    steps = "".join(f"  step{number}: {{job: letters, train: 1, test: 1, seed: {number}}}\n" for number in range(12))
    workplace.file.write_text(f"name: many\nsteps:\n{steps}")
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    logs = [log.read_text() for log in workplace.folder.glob("runs/step*/logs/controller.txt")]
    assert len(logs) == 12
    assert all(log.count("--- controller on ") == 1 for log in logs)
    assert len({log.partition("process ")[2].partition(",")[0] for log in logs}) <= SHARED_PROCESSES
