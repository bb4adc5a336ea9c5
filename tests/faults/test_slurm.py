"""An experiment on a real Slurm: its time limit, a node that loses Ray, a preemption, and nodes that are given back.

Three nodes are three slurmd of this machine. The experiment is the built-in task, tiny: minutes on two cores.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.conftest import ROOT
from tests.faults.slurm_site import Site, slurm

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with slurm(tmp_path_factory.mktemp("s"), nodes=3, cpus=2) as site:
        yield site


def experiment(folder: Path, epochs: int) -> Path:
    """Trains for so many epochs of 250 steps on two workers, a node each, then sweeps."""
    content = {
        "name": "tiny",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {
            "letters": {"job": "letters", "train": 4000, "test": 20},
            "model": {
                "job": "finetune",
                "model": {"random": "qwen2", "layers": 1, "hidden_size": 64},
                "data": "${letters}",
                "epochs": epochs,
                "batch_size": 16,
                "resources": {"workers": 2, "cpus_per_worker": 2, "checkpoint_every": 50},
            },
            "sweep": {
                "job": "evaluate",
                "model": "${model}",
                "tasks": ["${letters}"],
                "budgets": [4, 8, "auto"],
                "engine": "transformers",
            },
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def submitted(site: Site, folder: Path, *words: str) -> str:
    said = site.said(sys.executable, "-m", "cluster.slurm", *words, cwd=folder)
    return said.rpartition(" ")[2]


def log(folder: Path) -> str:
    (path,) = folder.glob("scaling-*.log")
    return path.read_text()


def is_done(file: Path) -> bool:
    experiment = load(file)
    return all(step.verdict == "done" for step in plan(experiment, Store(Path(experiment.store))))


def started(folder: Path, step: str, seconds: float) -> None:
    """Waits until a step has got somewhere."""
    deadline = time.monotonic() + seconds
    while not list(folder.glob(f"runs/{step}-*/progress.json")):
        assert time.monotonic() < deadline, log(folder)[-3000:]
        time.sleep(0.5)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_job_goes_on_after_its_time_limit_and_after_a_node_lost_ray(site: Site, tmp_path: Path) -> None:
    file = experiment(tmp_path, epochs=12)
    options = ["--nodes=2", "--time=2", "--signal=B:USR1@20"]
    number = submitted(site, tmp_path, *options, str(file))
    started(tmp_path, "model", 300)
    (raylet,) = [each for each in ray_of(tmp_path, "n2") if "raylet" in each.name()]
    raylet.send_signal(signal.SIGKILL)
    said = wait_for_end(site, tmp_path, number, 1500)
    assert "Ray ended on n2: it is started again" in said
    assert "the time limit is near: the job goes back into the queue" in said
    restarts = [int(each) for each in re.findall(r"restart (\d+)", said)]
    assert restarts == list(range(len(restarts)))
    assert len(restarts) > 1
    assert is_done(file)
    assert not [each for each in psutil.process_iter() if "raylet" in each.name() and str(tmp_path) in str(each.cwd())]


def ray_of(folder: Path, node: str) -> list[psutil.Process]:
    """The processes of Ray on a node, by what Slurm set in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("SLURMD_NODENAME") == node and environment.get("SLURM_SUBMIT_DIR") == str(folder):
            found.append(process)
    return found


def wait_for_end(site: Site, folder: Path, number: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while site.job(number)["JobState"] not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"):
        assert time.monotonic() < deadline, log(folder)[-3000:]
        time.sleep(1)
    job, said = site.job(number), log(folder)
    assert job["JobState"] == "COMPLETED", said[-3000:]
    return said


def test_what_is_preempted_goes_on_later_and_what_is_cancelled_does_not(site: Site, tmp_path: Path) -> None:
    file = experiment(tmp_path, epochs=4)
    number = submitted(site, tmp_path, "--nodes=3", "--time=20", str(file))
    started(tmp_path, "model", 300)
    urgent = site.said(
        "sbatch", "--parsable", "-p", "urgent", "--nodes=3", "--exclusive", "--wrap=sleep 5", cwd=tmp_path
    )
    site.wait(urgent, "COMPLETED", 180)
    site.wait(number, "RUNNING", 180)
    assert site.job(number)["Restarts"] == "1"
    deadline = time.monotonic() + 120
    while "restart 1" not in log(tmp_path):
        assert time.monotonic() < deadline, log(tmp_path)[-3000:]
        time.sleep(0.5)
    started(tmp_path, "model", 300)
    site.said("scancel", number)
    site.wait(number, "CANCELLED", 120)
    assert "SIGTERM: stopping the run" in log(tmp_path)
    assert not is_done(file)


def test_nodes_that_idle_leave_the_job(site: Site, tmp_path: Path) -> None:
    file = experiment(tmp_path, epochs=6)
    number = submitted(site, tmp_path, "--nodes=3", "--time=20", str(file), "--give-back", "0.3")
    started(tmp_path, "model", 300)
    deadline = time.monotonic() + 200
    while site.job(number)["NumNodes"] != "2":
        assert time.monotonic() < deadline, log(tmp_path)[-3000:]
        assert site.job(number)["JobState"] == "RUNNING", log(tmp_path)[-3000:]
        time.sleep(1)
    assert site.said("sinfo", "-h", "-N", "-n", "n1,n2,n3", "-p", "main", "-t", "idle", "-o", "%N").count("n") == 1
    said = wait_for_end(site, tmp_path, number, 900)
    assert re.search(r"gave back n[23], which had nothing to do; left: n1, n[23]", said)
    assert is_done(file)
    assert not list(tmp_path.glob("slurm_job_*_resize*"))
