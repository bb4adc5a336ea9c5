"""Offline runs of Weights & Biases, read back by its own reader. It is installed into an environment of its own, which
otherwise has what this one has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.conftest import ROOT
from tests.evaluate.exports.experiment import finished

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has wandb."""
    folder = tmp_path_factory.mktemp("wandb")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "wandb==0.31.*"], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def said(programs: Path, folder: Path, *words: str, code: int = 0) -> str:
    """What a command of that environment says, in a folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    own |= {"PYTHONPATH": str(ROOT), "HOME": str(folder), "WANDB_API_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([programs / words[0], *words[1:]], env=own, cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(programs: Path, folder: Path, *more: str) -> str:
    return said(programs, folder, "python", "-m", "orchestrator", "run", "sums.yaml", "--set", "wandb=wandb", *more)


def read(programs: Path, folder: Path, run: Path) -> dict[str, Any]:
    """Of an offline run: its record, its history, and how it ended."""
    lines = said(programs, folder, "wandb", "leet", "inspect", "--json", str(run)).splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    (about,) = (each["run"] for each in records if each["type"] == "run")
    (ended,) = (each["exit"] for each in records if each["type"] == "exit")
    return about | ended | {"history": [each["history"]["item"] for each in records if each["type"] == "history"]}


def test_a_finished_sweep_is_read_back_as_it_was_measured(programs: Path, tmp_path: Path) -> None:
    file = finished(tmp_path)
    experiment = load(file)
    for step in plan(experiment, Store(Path(experiment.store))):
        step.folder.write_status(state="done", started=10.0, finished=71.0)
    run(programs, tmp_path)
    runs = {each.name.split("-", 3)[-1]: each for each in (tmp_path / "wandb").glob("offline-run-*")}
    folders = {each.parent.name: each.parent for each in file.parent.glob("runs/*/tracked/*/run.json")}
    (fingerprint,) = {each.parents[1].name.rpartition("-")[2] for each in folders.values()}
    assert set(runs) == {f"{fingerprint}-{name}" for name in folders}
    for name, folder in folders.items():
        record = json.loads((folder / "run.json").read_text())
        made = read(programs, tmp_path, runs[f"{fingerprint}-{name}"])
        assert (made["display_name"], made["project"], made["run_group"]) == (record["name"], "sums", "sweep")
        assert made["exit_code"] == 0
        told = made["config"]["update"]
        assert {key: told[key] for key in record["params"]} == record["params"]
        assert told["fingerprint"] == fingerprint
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        history = [{key: value for key, value in item.items() if key[0] != "_"} for item in made["history"]]
        assert history == [pytest.approx({**line["values"], "step": line["step"]}) for line in lines]
    listed = said(programs, tmp_path, "wandb", "sync", "--dry-run", *map(str, runs.values()))
    assert f"Would sync {len(runs)} run(s)" in listed
    everything = b"".join(each.read_bytes() for each in (tmp_path / "wandb").rglob("*") if each.is_file())
    assert KEY.encode() not in everything
    assert b"--set" not in everything, "what was called may have passwords in it"
    assert_only_what_changed_is_written_again(programs, tmp_path, runs)


def assert_only_what_changed_is_written_again(programs: Path, folder: Path, runs: dict[str, Path]) -> None:
    times = {name: (each / "told.sha256").stat().st_mtime_ns for name, each in runs.items()}
    name = next(iter(runs))
    (runs[name] / "told.sha256").write_text("of something else")
    (record,) = folder.glob("runs/sweep-*/mirrored.json")
    record.unlink()
    run(programs, folder)
    again = {each.name.split("-", 3)[-1]: each for each in (folder / "wandb").glob("offline-run-*")}
    assert set(again) == set(runs)
    assert [each for each in again if (again[each] / "told.sha256").stat().st_mtime_ns != times[each]] == [name]
