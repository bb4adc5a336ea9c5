"""Where offline runs of Weights & Biases go, and what is said without its package, which tests/faults has."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from orchestrator.__main__ import main
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from orchestrator.tracking import wandb_runs
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.tracker import TrackingError
from orchestrator.tracking.wandb_runs import WandbRuns

TEXT = "name: a/b\nsteps:\n  words: {job: letters, train: 10}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCHESTRATOR_WANDB", raising=False)
    (tmp_path / "mine.yaml").write_text(TEXT)
    return tmp_path / "mine.yaml"


def test_it_is_asked_for_in_the_file_or_in_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(file).wandb == ""
    assert load(file, ("wandb=offline",)).wandb == str(file.parent / "offline")
    monkeypatch.setenv("ORCHESTRATOR_WANDB", "/scratch/wandb")
    assert load(file).wandb == "/scratch/wandb"
    with pytest.raises(ExperimentError, match=r"is not a local folder: wandb sync uploads"):
        load(file, ("wandb=https://api.wandb.ai",))


def test_a_missing_package_is_said_before_anything_starts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_runs, "LIBRARY", "wandb_that_nobody_has")
    with pytest.raises(TrackingError, match=r"is not installed: pip install 'scaling-orchestrator\[wandb\]'"):
        Mirror(load(file, ("wandb=offline",)), Console()).check()
    Mirror(load(file), Console()).check()


def test_plan_says_it_in_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_runs, "LIBRARY", "wandb_that_nobody_has")
    file.write_text(TEXT.replace("\n", "\nwandb: offline\n", 1))
    planned = CliRunner().invoke(main, ["plan", "mine.yaml"])
    assert planned.exit_code == 2
    assert planned.output == (
        f"mine.yaml:2: wandb: {file.parent}/offline: the package wandb_that_nobody_has is not installed: "
        "pip install 'scaling-orchestrator[wandb]', or take the key out\n"
    )
    (step,) = plan(load(file), Store(file.parent / "runs"))
    step.folder.create(step.identity)
    step.folder.mark_done()
    assert CliRunner().invoke(main, ["plan", "mine.yaml"]).exit_code == 0, "nothing would run"


def test_a_project_is_called_as_the_experiment_as_far_as_it_can_be() -> None:
    assert WandbRuns(Path(), "a/b: 50% #1?").project == "a-b- 50- -1-"
    assert len(WandbRuns(Path(), "x" * 200).project) == 128
