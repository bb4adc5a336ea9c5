"""What is refused before anything is taken, in one line; and names that are strange and nothing worse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from ray._private.utils import check_version_info

from orchestrator.__main__ import main
from orchestrator.complaints import ExperimentError
from orchestrator.connection import refused
from orchestrator.experiment import LONGEST_NAME, load
from orchestrator.job.context import StepContext
from orchestrator.job.tracked_run import folder_name
from orchestrator.reporting import write_reports
from orchestrator.store.step_folders import NAME, Store
from orchestrator.tracking import tracker
from orchestrator.tracking.tracker import NAME_LENGTH, Tracker, TrackingError
from tests.orchestrator.workplace import Workplace

STRANGE = [
    "how accuracy grows",
    "Genauigkeit über Länge",
    "精度と思考",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a/b\\c:d*e?",
    "quotes \" and ' and `",
    "x" * LONGEST_NAME,
    "é" * LONGEST_NAME,
]


def written(folder: Path, name: str, steps: str = "letters: {job: letters, train: 1}") -> Path:
    file = folder / "experiment.yaml"
    file.write_text(f"name: {json.dumps(name)}\nstore: {folder}/runs\ntracking: sqlite:///{folder}/mlflow.db\n")
    with file.open("a") as more:
        more.write(f"steps:\n  {steps}\n")
    return file


@pytest.mark.parametrize("name", STRANGE)
def test_an_experiment_may_be_called_anything_that_fits_on_a_line(tmp_path: Path, name: str) -> None:
    experiment = load(written(tmp_path, name))
    assert experiment.name == name
    assert NAME.fullmatch(folder_name(name)) or len(folder_name(name)) <= 80
    assert Path(folder_name(name)).parts == (folder_name(name),)
    result = CliRunner().invoke(main, ["plan", str(tmp_path / "experiment.yaml")])
    assert result.exit_code == 0, result.output
    assert write_reports(experiment, Store(tmp_path / "runs"), [], "report") == []


@pytest.mark.parametrize("name", ["", " ", "a\nb", " a", "a\tb", "\x1b[2J", "x" * (LONGEST_NAME + 1), "\u202eb"])
def test_a_name_that_is_none_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExperimentError, match="name") as refusal:
        load(written(tmp_path, name))
    assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(ExperimentError, match="name"):
        load(written(tmp_path, "fine"), (f"name={json.dumps(name)}",))


@pytest.mark.parametrize("name", ["a b", "über", "x" * 300, "../x", "a.b", "<b>"])
def test_a_steps_name_is_a_folders_or_refused_in_a_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ExperimentError, match="cannot be a step's name: letters, digits, _ and -, at most 64"
    ) as refusal:
        load(written(tmp_path, "fine", f"{json.dumps(name)}: {{job: letters, train: 1}}"))
    assert len(str(refusal.value).splitlines()) == 1


@given(st.text(min_size=1, max_size=400))
def test_whatever_a_name_is_its_folder_is_one_below_and_its_own(name: str) -> None:
    folder = folder_name(name)
    assert "/" not in folder
    assert folder not in (".", "..")
    assert len(folder.encode()) <= 80
    assert folder != folder_name(f"{name}x")


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["精度" * 150, "<b>&\"'"])
def test_mlflow_takes_any_name_and_keeps_long_ones_apart(tmp_path: Path, empty_database: Path, name: str) -> None:
    step = StepContext("e", "letters", "0" * 16, tmp_path / "letters", tmp_path / "traces")
    step.storage.mkdir()
    step.track("run", {}).metrics({"accuracy": 0.5}, step=1)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for each in (name, f"{name}!"):
        Tracker(uri, each).sync(tmp_path / "letters", "letters", "0" * 16, "FINISHED")
    found = {experiment.name for experiment in MlflowClient(uri).search_experiments()} - {"Default"}
    assert len(found) == 2
    assert all(len(each) <= NAME_LENGTH for each in found)
    assert len(name) > NAME_LENGTH or name in found


def test_a_sweeps_strings_may_be_anything(tmp_path: Path) -> None:
    strings = ["Wait", "待って", "<b>", "x" * 300, "a\nb", ""]
    sweep = {"job": "evaluate", "model": "simplescaling/s1-32B", "tasks": ["aime24"], "resources": {"gpus": 2}}
    text = f"sweep: {json.dumps({**sweep, 'extensions': {'strings': strings, 'counts': [1]}})}"
    file = written(tmp_path, "strings", text)
    result = CliRunner().invoke(main, ["plan", str(file)])
    assert result.exit_code == 0, result.output
    assert "待" in result.output
    override = f"steps.sweep.extensions.strings={json.dumps(['Hmm … «ja»'])}"
    assert "Hmm … «ja»" in CliRunner().invoke(main, ["plan", str(file), "--set", override]).output


def test_a_cluster_of_other_versions_is_named_in_a_line() -> None:
    with pytest.raises(RuntimeError) as mismatch:
        check_version_info({"ray_version": "2.9.1", "python_version": "3.8.3"}, "10.0.0.1:6379")
    line = refused("10.0.0.1:6379", mismatch.value)
    assert line.startswith(
        "RAY_ADDRESS: the cluster at 10.0.0.1:6379 has Ray 2.9.1 and Python 3.8.3, and this is Ray 2."
    )
    assert line.endswith(": give both the same")
    assert refused("x:1", ConnectionError("Could not find\nmore")) == (
        "RAY_ADDRESS: no cluster can be used at x:1: Could not find"
    )


@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_whoever_came_without_a_token_is_told_how_to_bring_one(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    line = refused("x:1", RuntimeError("Failed to connect to Ray cluster at x:1\nmore"))
    assert line.endswith(": if it asks for a token, set RAY_AUTH_MODE=token") == (mode == "disabled")
    assert "\n" not in line


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_does_not_answer_is_said_in_a_line_at_once(workplace: Workplace, scheme: str) -> None:
    workplace.write(10)
    workplace.environment["RAY_ADDRESS"] = f"{scheme}127.0.0.1:1"
    code, output = workplace.run("run", "words.yaml")
    assert code == 2, output
    told = f"RAY_ADDRESS: no cluster can be used at {scheme}127.0.0.1:1: [Errno 111] Connection refused"
    assert output.splitlines()[-1] == told


def test_a_tracking_server_that_does_not_answer_is_said_before_anything_starts(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "ANSWER_SECONDS", 0.1)
    with pytest.raises(TrackingError, match=r"tracking: http://host.invalid:5000 does not answer") as refusal:
        Tracker("http://me:secret@host.invalid:5000", "words").check()
    assert "secret" not in str(refusal.value)
    Tracker(f"sqlite:///{workplace.folder}/mlflow.db", "words").check()
    workplace.write(10)
    code, output = workplace.run("run", "words.yaml", "--set", "tracking=http://127.0.0.1:1")
    assert code == 2, output
    assert "tracking: http://127.0.0.1:1 does not answer" in output.splitlines()[-1]
    assert not (workplace.folder / "runs" / "letters").exists()
    assert not list((workplace.folder / "runs").glob("letters-*"))
