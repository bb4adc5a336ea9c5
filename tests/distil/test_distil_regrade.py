"""Grading a finished distilling step again: what is kept follows, and the steps that took it are made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from jobs.distil import regrade as regrading
from jobs.evaluate.grading import GRADER_VERSION
from jobs.evaluate.regrade import GradedAgain
from orchestrator.__main__ import main
from orchestrator.garbage import unreachable
from orchestrator.job.errors import StepError
from orchestrator.store.step_folders import Store
from tests.collect.questions import read
from tests.distil.finished import finish, make, steps

pytestmark = pytest.mark.seconds


@pytest.fixture
def folder(tmp_path: Path, empty_database: Path) -> Path:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    for name in ("sums", "sums · data"):
        MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").create_experiment(name, (tmp_path / "artifacts").as_uri())
    return finish(tmp_path)


def grade(folder: Path) -> Result:
    return CliRunner().invoke(main, ["grade", str(folder / "sums.yaml")], catch_exceptions=False)


def verdicts(folder: Path) -> dict[str, str]:
    return {name: step.verdict for name, step in steps(folder).items()}


def test_what_is_kept_follows_the_verdicts_and_what_was_made_of_it_is_made_again(folder: Path) -> None:
    before = steps(folder)
    assert verdicts(folder) == {"traces": "done", "chosen": "done", "again": "done"}
    output = Path(str(before["traces"].folder.output))
    assert [row["id"] for row in read(output / "train.jsonl")] == ["q0"]

    told = grade(folder)

    assert told.exit_code == 1, "again has to be run first"
    assert f"traces: graded by grader 1, now by grader {GRADER_VERSION}" in told.output
    assert "1 of 3 verdicts differ" in told.output
    assert "again: takes traces, which is another now: run it, and then grade it" in told.output
    after = steps(folder)
    assert verdicts(folder) == {"traces": "done", "chosen": "would run", "again": "would run"}
    assert after["traces"].fingerprint == before["traces"].fingerprint
    assert "changed: data" in after["chosen"].reason
    assert "regraded" in after["chosen"].reason
    kept = read(output / "train.jsonl")
    assert [(row["id"], row["verdict"], row["model"]) for row in kept] == [
        ("q0", "correct", "r1"),
        ("q1", "correct", "r1"),
    ]
    assert [row["id"] for row in read(output / "test.jsonl")] == ["q0", "q1"]
    assert [(row["id"], row["reason"]) for row in read(output / "dropped.jsonl")] == [("q2", "wrong")]
    assert json.loads((output / "funnel.json").read_text())["out"] == {"sums": 2}
    assert "2 traces." in (output / "README.md").read_text()
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    (run,) = [run for run in runs if run.info.run_name == "traces"]
    assert (run.data.metrics["rows_out"], run.data.tags["grader"]) == (2, str(GRADER_VERSION))

    make(folder, "chosen")
    chosen = steps(folder)["chosen"]
    assert (chosen.verdict, len(read(Path(str(chosen.folder.output)) / "train.jsonl"))) == ("done", 2)
    needed = {each.path.name for each in unreachable(Store(folder / "runs"), [chosen])}
    assert after["traces"].folder.path.name not in needed, "what was taken is still told from the identity"
    assert before["chosen"].folder.path.name in needed

    again = grade(folder)
    assert "0 of 3 verdicts differ" in again.output
    assert verdicts(folder) == {"traces": "done", "chosen": "done", "again": "would run"}


def test_grading_that_comes_to_nothing_changes_nothing_and_what_is_interrupted_passes_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(str(steps(folder)["traces"].folder.output))
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def keeps_nothing(*_: object) -> None:
        raise StepError("keep: correct keeps none of 3 samples: 3 wrong")

    def interrupted(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(regrading, "keep", keeps_nothing)
        told = grade(folder)
    assert told.exit_code == 1
    assert "traces: keep: correct keeps none" in told.output
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert verdicts(folder) == {"traces": "done", "chosen": "done", "again": "done"}
    monkeypatch.setattr(GradedAgain, "_apply", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        grade(folder)
    assert verdicts(folder) == {"traces": "would run", "chosen": "would run", "again": "would run"}
