"""The shipped experiment, submitted in each of the four ways: one result, and the phenomena that it is there to show.

The first way trains with one worker, which takes fewer seconds (``tests/faults/test_shipped_experiment.py`` runs it as
it is). The others find its model in their store, and sweep for themselves, a few policies.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import ray

from cluster import local
from orchestrator import doctor

EXPERIMENT = "experiments/scaling_sweep.yaml"
FEW = ["--set", "steps.sweep.budgets=[4, auto]", "--set", "steps.sweep.extensions={strings: [Wait], counts: [1]}"]
"""Policies whose sweep is short. Their rows of the table are those of the whole one."""
ONE_WORKER = ["--set", "steps.tiny.resources.workers=1"]
OF_THE_WHOLE = ("p_holm", "detectable")
"""Columns that depend on which other policies there are."""


@pytest.fixture(scope="module")
def cluster(checkout: Path, environment: dict[str, str]) -> Iterator[Mapping[str, str]]:
    """The environment for a Ray cluster that was started in the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(checkout)
        with local.head(cpus=2) as reachable:
            yield reachable


def submit(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """The output of a command that must succeed."""
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


Row = dict[str, str]


def table(store: Path) -> dict[str, Row]:
    """The rows by policy."""
    (folder,) = store.glob("sweep-*/")
    lines = (folder / "output" / "table.csv").read_text().splitlines()
    return {row["policy"]: row for row in csv.DictReader(lines)}


def same(few: dict[str, Row], whole: dict[str, Row]) -> bool:
    """Whether the table of :data:`FEW` says of them what the whole one does."""

    def own(row: Row) -> Row:
        return {column: value for column, value in row.items() if column not in OF_THE_WHOLE}

    policies = ["4", "auto", '1x"Wait"']
    return list(few) == policies and all(own(few[name]) == own(whole[name]) for name in policies)


def with_model_of(store: Path, new: Path) -> Path:
    """A new store that has the dataset and the model of another, but no sweep."""
    new.mkdir(parents=True)
    for step in ("letters", "tiny"):
        (folder,) = store.glob(f"{step}-*/")
        shutil.copytree(folder, new / folder.name)
    return new


@pytest.fixture(scope="module")
def first(checkout: Path, cluster: Mapping[str, str]) -> Path:
    """The store after the first submission."""
    output = submit(["ray", "job", "submit", "--", EXPERIMENT, *ONE_WORKER], checkout, cluster)
    for step in ("letters", "tiny", "sweep"):
        assert f"{step}: done in" in output
    assert "| policy | thinking tokens |" in output
    assert "/600 steps (" in output
    assert "/200 units (" in output
    return checkout / "runs"


def test_doctor_asks_the_cluster_for_its_versions(cluster: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, cluster[name])
    folder = str(Path(cluster["RAY_AUTH_TOKEN_PATH"]).parent)
    commands = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    (head,) = {found[1] for each in commands if folder in each and (found := re.search(r"--gcs-address=(\S+)", each))}
    monkeypatch.setenv("RAY_ADDRESS", head)
    here = f"answers: Ray {ray.__version__} and Python {platform.python_version()}"
    addresses = (head, cluster["RAY_API_SERVER_ADDRESS"])
    assert [(each.said, each.remedy) for each in doctor.clusters()] == [(f"{each} {here}", "") for each in addresses]
    monkeypatch.delenv("RAY_AUTH_MODE")
    for asked in doctor.clusters():
        assert asked.said.endswith("asks for a token that it was not given")
        assert asked.remedy.startswith("set RAY_AUTH_MODE=token")


def assert_the_curve_shows_what_budget_forcing_does(store: Path) -> None:
    accuracy = {policy: float(row["accuracy"]) for policy, row in table(store).items()}
    assert accuracy["4"] < accuracy["16"] < accuracy["auto"] + 0.1
    assert accuracy["auto"] == accuracy["32"]
    assert accuracy['1x"Wait"'] >= accuracy["auto"] + 0.25
    assert abs(accuracy['1x"Hmm"'] - accuracy["auto"]) <= 0.05
    assert accuracy['4x"Wait"'] < accuracy['1x"Wait"']


def test_the_curve_shows_what_budget_forcing_does(first: Path) -> None:
    assert_the_curve_shows_what_budget_forcing_does(first)


def test_a_command_gives_the_same_table_as_a_job_and_the_file_itself_is_one(
    first: Path, checkout: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    store = with_model_of(first, tmp_path / "module")
    settings = {"ORCHESTRATOR_STORE": str(store), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    own = {**environment, **settings}
    submit(["python", "-m", "orchestrator", "run", EXPERIMENT, *FEW], checkout, own)
    assert same(table(store), table(first))
    output = submit([f"./{EXPERIMENT}", *FEW], checkout, own)
    assert "everything is done, nothing to run" in output
    assert "| policy | thinking tokens |" in output


def test_submitting_again_does_nothing_and_shows_the_table(
    first: Path, checkout: Path, cluster: Mapping[str, str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    output = submit(["ray", "job", "submit", EXPERIMENT], checkout, cluster)
    assert "everything is done, nothing to run" in output
    assert "| policy | thinking tokens |" in output
    # make starts no cluster for it.
    output = submit(["make", "sweep", "INSTALLED="], checkout, cluster)
    assert "everything is done, nothing to run" in output
    assert "policy" in output
    assert "using the Ray cluster" not in output
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()} == before


def working(home: str) -> list[psutil.Process]:
    """The processes of all jobs of the cluster of that home: drivers, steps, replicas."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if (
                "orchestrator run" in command or command.startswith(("ray::_run_step", "ray::Replica"))
            ) and process.environ().get("HOME") == home:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not look():
        assert time.monotonic() < deadline, "waited 90 s in vain"
        time.sleep(0.1)


def test_a_stopped_job_leaves_nothing_running_and_the_next_one_continues_from_an_upload_too(
    first: Path, checkout: Path, cluster: Mapping[str, str], environment: dict[str, str]
) -> None:
    home = environment["HOME"]
    store = with_model_of(first, Path(home) / ".orchestrator" / "runs")
    job = ["ray", "job", "submit", "--working-dir", "."]
    slow = ["--set", "steps.sweep.resources.in_flight=2"]
    submit([*job, "--no-wait", "--submission-id", "stopped", "--", EXPERIMENT, *FEW, *slow], checkout, cluster)
    wait_for(lambda: any(json.loads(file.read_text())["done"] for file in store.glob("sweep-*/progress.json")))
    assert len(working(home)) >= 3
    submit(["ray", "job", "stop", "stopped"], checkout, cluster)
    wait_for(lambda: not working(home))
    assert not list(store.glob("sweep-*/done.json"))
    output = submit([*job, "--", EXPERIMENT, *FEW], checkout, cluster)
    assert "sweep: would run (continues what" in output
    assert same(table(store), table(first))
