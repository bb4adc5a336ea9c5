"""What `python -m cluster.slurm` makes of its arguments and of what Slurm says; tests/faults has a real Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import slurm, slurm_restarts
from tests.conftest import ROOT


@pytest.mark.parametrize(("text", "counts"), [("72", [72]), ("72(x2),36", [72, 72, 36]), ("1,2(x3)", [1, 2, 2, 2])])
def test_cpus_are_counted_as_slurm_writes_them(text: str, counts: list[int]) -> None:
    assert slurm.cpus_per_node(text) == counts


def test_what_slurm_would_not_write_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^SLURM_JOB_CPUS_PER_NODE: '72x2' is not what Slurm writes"):
        slurm.cpus_per_node("72x2")


def test_options_before_the_file_are_sbatch_s_and_those_after_it_the_experiment_s() -> None:
    command = slurm.submission(["--nodes", "2", "-p", "gpu", "a.yaml", "--set", "steps.sweep.seed=1"])
    assert command == [
        "sbatch",
        "--nodes",
        "2",
        "-p",
        "gpu",
        str(slurm.SCRIPT),
        "a.yaml",
        "--set",
        "steps.sweep.seed=1",
    ]
    with pytest.raises(ValueError, match=r"^give the experiment's FILE"):
        slurm.submission(["--nodes", "2"])


@pytest.mark.parametrize(
    ("job", "preempted"),
    [
        ("JobId=7 EligibleTime=2026-11-27T16:00:00 PreemptEligibleTime=2026-11-27T16:00:00 PreemptTime=None", False),
        ("JobId=7 PreemptEligibleTime=2026-11-27T16:00:00 PreemptTime=2026-11-27T16:20:00 Suspend=0", True),
        ("JobId=7 JobState=CANCELLED", False),
    ],
)
def test_a_preemption_is_told_from_a_cancellation(job: str, preempted: bool) -> None:
    assert slurm.is_preempted(job) is preempted


def test_only_nodes_that_idle_long_enough_are_given_back_and_none_while_something_waits() -> None:
    states = [("n1", 900.0, True), ("n2", 301.0, True), ("n3", 299.0, True), ("n4", 900.0, False)]
    assert slurm.idle_nodes(states, waiting=False, minutes=5, head="n1") == ["n2"]
    assert slurm.idle_nodes(states, waiting=True, minutes=5, head="n1") == []


def test_outside_of_an_allocation_it_submits(tmp_path: Path) -> None:
    fake = tmp_path / "sbatch"
    fake.write_text('#!/bin/sh\necho "$SCALING_PYTHON" "$@"\n')
    fake.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    command = [sys.executable, "-m", "cluster.slurm", "--nodes=4", "x.yaml"]
    path = {"PATH": f"{tmp_path}:{environment['PATH']}"}
    done = subprocess.run(command, env=environment | path, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"{sys.executable} --nodes=4 {slurm.SCRIPT} x.yaml\n"
    nothing = subprocess.run(command, env=environment | {"PATH": "/nowhere"}, cwd=ROOT, capture_output=True, text=True)
    assert (nothing.returncode, nothing.stderr) == (2, "sbatch is not there: run this on a login node of the cluster\n")


def test_the_batch_script_asks_for_what_the_job_rests_on() -> None:
    options = [
        line.split(maxsplit=1)[1] for line in slurm.SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")
    ]
    assert {"--requeue", "--ntasks-per-node=1", "--exclusive", "--open-mode=append"} <= set(options)
    (warning,) = (int(each.rpartition("@")[2]) for each in options if each.startswith("--signal=B:USR1@"))
    stopped = slurm.STOP_SECONDS + 30
    assert warning > stopped + slurm_restarts.PATIENCE, "run and Ray are stopped, and the store asked, before the end"
