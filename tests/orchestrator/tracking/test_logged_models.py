"""The model that came of a run, in MLflow: there once, with its lineage, whatever happened in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus

from orchestrator.job.context import StepContext
from orchestrator.tracking.tracker import Tracker
from tests.evaluate.simulated import context
from tests.going_away import goes_away_after


@pytest.fixture
def tracker(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return Tracker(f"sqlite:///{tmp_path}/mlflow.db", "models")


@pytest.fixture
def step(tmp_path: Path) -> StepContext:
    """A step whose training made a model."""
    step = context(tmp_path / "runs")
    train(step, learning_rate=1e-5)
    return step


def train(step: StepContext, learning_rate: float) -> None:
    """What training tells, as an attempt that starts it from the beginning."""
    run = step.track("finetune", {"learning_rate": learning_rate}, group="training")
    run.rewind(-1)
    run.metrics({"loss": 2.5}, step=0)
    facts = {"location": str(step.output), "data_fingerprint": "c0ffee", "learning_rate": learning_rate}
    run.made_model("s1-32b", "finetuned", facts)


def sync(tracker: Tracker, step: StepContext, state: str = "FINISHED") -> None:
    tracker.sync(step.folder, step.name, step.fingerprint, state)


def models(tracker: Tracker) -> list[LoggedModel]:
    client = MlflowClient(tracker.uri)
    found = client.get_experiment_by_name(f"{tracker.experiment} · training")
    return list(client.search_logged_models([found.experiment_id]))


def test_a_model_is_an_output_of_its_run_and_tells_where_it_is_and_what_it_came_from(
    tracker: Tracker, step: StepContext
) -> None:
    sync(tracker, step)
    (model,) = models(tracker)
    assert (model.name, model.model_type, model.status) == ("s1-32b", "finetuned", LoggedModelStatus.READY)
    expected = {"location": str(step.output), "data_fingerprint": "c0ffee", "learning_rate": "1e-05"}
    assert model.params == expected
    assert {"step": step.name, "fingerprint": step.fingerprint, "mlflow.model.isExternal": "true"}.items() <= (
        model.tags.items()
    )
    client = MlflowClient(tracker.uri)
    (run,) = client.search_runs([model.experiment_id])
    assert model.source_run_id == run.info.run_id
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


def test_there_is_no_model_before_its_step_is_done(tracker: Tracker, step: StepContext) -> None:
    for state in ("RUNNING", "FAILED", "KILLED"):
        sync(tracker, step, state)
        assert models(tracker) == []


def test_telling_of_a_model_again_changes_nothing(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    (first,) = models(tracker)
    train(step, learning_rate=1e-5)
    sync(tracker, step, "RUNNING")
    sync(Tracker(tracker.uri, tracker.experiment), step)
    assert [model.to_dictionary() for model in models(tracker)] == [first.to_dictionary()]


def test_another_model_of_the_same_step_replaces_it(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    (first,) = models(tracker)
    train(step, learning_rate=2e-5)
    sync(tracker, step)
    (second,) = models(tracker)
    assert second.model_id != first.model_id
    assert second.params["learning_rate"] == "2e-05"
    (run,) = MlflowClient(tracker.uri).search_runs([second.experiment_id])
    assert second.source_run_id == run.info.run_id


def test_a_model_goes_on_to_the_run_that_replaces_its_own(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    (first,) = models(tracker)
    MlflowClient(tracker.uri).delete_run(first.source_run_id)
    sync(tracker, step)
    (second,) = models(tracker)
    assert second.source_run_id not in (None, first.source_run_id)
    assert second.params == first.params


def test_models_of_different_steps_keep_apart(tracker: Tracker, step: StepContext, tmp_path: Path) -> None:
    sync(tracker, step)
    tracker.sync(step.folder, "another", "99", "FINISHED")
    assert len({model.tags["fingerprint"] for model in models(tracker)}) == 2


@pytest.mark.parametrize("failing", ["create_logged_model", "log_outputs", "finalize_logged_model"])
def test_a_server_that_goes_away_in_the_middle_is_caught_up(tracker: Tracker, step: StepContext, failing: str) -> None:
    with goes_away_after(failing):
        sync(tracker, step)
    sync(tracker, step)
    (model,) = models(tracker)
    assert model.status == LoggedModelStatus.READY
    (run,) = MlflowClient(tracker.uri).search_runs([model.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
