"""An experiment on a real Slurm: its time limit, a node that loses Ray, a preemption, and nodes that are given back.

Three nodes are three slurmd of this machine. The experiment is the built-in task, tiny: minutes on two cores.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.faults.slurm_site import Site, slurm

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with slurm(tmp_path_factory.mktemp("s"), nodes=3, cpus=2) as site:
        yield site


def experiment(folder: Path) -> Path:
    """Trains for 1,000 steps on two workers, a node each, then sweeps."""
    content = {
        "name": "tiny",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {
            "letters": {"job": "letters", "train": 16000, "test": 20},
            "model": {
                "job": "finetune",
                "model": {"random": "qwen2", "layers": 1, "hidden_size": 64},
                "data": "${letters}",
                "epochs": 1,
                "batch_size": 16,
                "resources": {"workers": 2, "cpus_per_worker": 2, "checkpoint_every": 20},
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


def reached(folder: Path, done: int, seconds: float = 600) -> None:
    """Waits until so many steps of training are done."""
    deadline = time.monotonic() + seconds
    while max((_done(each) for each in folder.glob("runs/model-*/progress.json")), default=0) < done:
        assert time.monotonic() < deadline, log(folder)[-3000:]
        time.sleep(0.5)


def _done(file: Path) -> int:
    return int(json.loads(file.read_text()).get("done", 0))


def says(folder: Path, text: str, seconds: float = 300) -> None:
    """Waits until the job has said something."""
    deadline = time.monotonic() + seconds
    while text not in log(folder):
        assert time.monotonic() < deadline, log(folder)[-3000:]
        time.sleep(0.5)


def made(folder: Path) -> dict[str, object]:
    """What the experiment came to: the weights, every sample, and the curves."""
    (weights,) = folder.glob("runs/model-*/output/model.safetensors")
    (sweep,) = folder.glob("runs/sweep-*/output")
    samples = pd.read_parquet(sweep / "samples.parquet").drop(columns=["seconds"], errors="ignore")
    return {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "samples": samples.to_csv(),
        "curves": (sweep / "curves.json").read_text(),
    }


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


def left_of(folder: Path, seconds: float = 60) -> list[str]:
    """The processes of a job that are still there after so long, whichever node they are of."""
    deadline = time.monotonic() + seconds
    while left := [each for node in ("n1", "n2", "n3") for each in ray_of(folder, node)]:
        if time.monotonic() > deadline:
            return [each.name() for each in left]
        time.sleep(1)
    return []


def wait_for_end(site: Site, folder: Path, number: str, seconds: float = 900) -> str:
    deadline = time.monotonic() + seconds
    while site.job(number)["JobState"] not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"):
        assert time.monotonic() < deadline, log(folder)[-3000:]
        time.sleep(1)
    job, said = site.job(number), log(folder)
    assert job["JobState"] == "COMPLETED", said[-3000:]
    return said


@pytest.fixture(scope="module")
def undisturbed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the experiment comes to on two nodes that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = experiment(folder)
    said = wait_for_end(site, folder, submitted(site, folder, "--nodes=2", "--time=60", str(file)))
    assert "2 nodes (n1, n2), restart 0" in said
    assert is_done(file)
    assert left_of(folder) == []
    return made(folder)


def test_a_job_goes_on_after_a_node_lost_ray_after_its_time_limit_and_after_a_lost_node(
    site: Site, tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    file = experiment(tmp_path)
    number = submitted(site, tmp_path, "--nodes=2", "--time=60", "--signal=B:USR1@100", str(file))
    reached(tmp_path, 15)
    (raylet,) = [each for each in ray_of(tmp_path, "n2") if "raylet" in each.name()]
    raylet.send_signal(signal.SIGKILL)
    says(tmp_path, "Ray ended on n2: it is started again")
    reached(tmp_path, 45)
    site.said("scontrol", "update", f"JobId={number}", f"TimeLimit={site.minutes(number) + 2}")
    says(tmp_path, "the time limit is near: the job goes back into the queue")
    site.wait(number, "PENDING", 60)
    site.said("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    says(tmp_path, "restart 1")
    reached(tmp_path, 75)
    site.kill("n2")
    says(tmp_path, "restart 2")
    site.start("n2")
    said = wait_for_end(site, tmp_path, number)
    assert re.findall(r"restart (\d+)", said) == ["0", "1", "2"]
    assert is_done(file)
    assert made(tmp_path) == undisturbed
    assert left_of(tmp_path) == []


def test_what_is_preempted_goes_on_later_and_what_is_cancelled_does_not(site: Site, tmp_path: Path) -> None:
    file = experiment(tmp_path)
    number = submitted(site, tmp_path, "--nodes=3", "--time=20", str(file))
    reached(tmp_path, 15)
    urgent = site.said(
        "sbatch", "--parsable", "-p", "urgent", "--nodes=3", "--exclusive", "--wrap=sleep 5", cwd=tmp_path
    )
    site.wait(urgent, "COMPLETED", 180)
    site.wait(number, "RUNNING", 180)
    assert site.job(number)["Restarts"] == "1"
    says(tmp_path, "restart 1")
    reached(tmp_path, 15)
    site.said("scancel", number)
    site.wait(number, "CANCELLED", 120)
    assert "SIGTERM: stopping" in log(tmp_path)
    assert "Traceback" not in log(tmp_path)
    assert not is_done(file)


def test_a_job_with_less_time_than_it_takes_to_start_is_given_up(site: Site, tmp_path: Path) -> None:
    file = experiment(tmp_path)
    number = submitted(site, tmp_path, "--nodes=1", "--time=2", "--signal=B:USR1@119", str(file))
    site.wait(number, "FAILED", 600)
    said = log(tmp_path)
    starts = len(re.findall(r"restart \d+", said))
    assert 3 <= starts <= 5, f"the first may have made the dataset: {said[-3000:]}"
    assert said.count("the job goes back into the queue") == starts - 1
    assert said.count("3 starts in a row got no further, so it is not put back into the queue") == 1
    assert not list(tmp_path.glob(".scaling-*"))
    assert left_of(tmp_path) == []


def test_nodes_that_idle_leave_the_job(site: Site, tmp_path: Path) -> None:
    file = experiment(tmp_path)
    number = submitted(site, tmp_path, "--nodes=3", "--time=20", str(file), "--give-back", "0.3")
    reached(tmp_path, 15)
    deadline = time.monotonic() + 200
    while site.job(number)["NumNodes"] != "2":
        assert time.monotonic() < deadline, log(tmp_path)[-3000:]
        assert site.job(number)["JobState"] == "RUNNING", log(tmp_path)[-3000:]
        time.sleep(1)
    assert site.said("sinfo", "-h", "-N", "-n", "n1,n2,n3", "-p", "main", "-t", "idle", "-o", "%N").count("n") == 1
    said = wait_for_end(site, tmp_path, number)
    assert re.search(r"gave back n[23], which had nothing to do; left: n1, n[23]", said)
    assert is_done(file)
    assert not list(tmp_path.glob("slurm_job_*_resize*"))
