"""The data that a tracked run was given is an input of MLflow's run, once."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlflow import MlflowClient

from orchestrator.job.tracked_run import TookDataset, TrackedRun
from orchestrator.tracking.tracker import Tracker


def test_each_dataset_is_an_input_of_the_run_however_often_it_is_told(tmp_path: Path, empty_database: Path) -> None:
    step = tmp_path / "step"
    given = [TookDataset("s1k", "c0ffee", "${s1k}"), TookDataset("math500", "d" * 40, "a/math500", "decontamination")]
    run = TrackedRun(step / "tracked" / "finetune", "finetune", {}, {}, "data")
    run.took(given[:1])
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "lineage")
    tracker.sync(step, "finetune", "0", "RUNNING")
    run.took(given)
    for _ in range(2):
        Tracker(tracker.uri, "lineage").sync(step, "finetune", "0", "FINISHED")
    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("lineage · data")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    inputs = {each.dataset.name: each for each in found.inputs.dataset_inputs}
    assert {name: each.dataset.digest for name, each in inputs.items()} == {"s1k": "c0ffee", "math500": "d" * 36}
    assert "${s1k}" in inputs["s1k"].dataset.source
    assert [(tag.key, tag.value) for tag in inputs["math500"].tags] == [("mlflow.data.context", "decontamination")]
