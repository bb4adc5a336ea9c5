"""Two sweeps against each other: what is paired, what is refused, and where they are taken from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from jobs.evaluate.compare import compare
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.publish import publish
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from orchestrator.job.errors import StepError
from orchestrator.job.record import Compared
from orchestrator.store.step_folders import StepFolder
from orchestrator.tracking.tracker import Tracker
from tests.conftest import ROOT
from tests.evaluate.simulated import CONFIG, Shape, context, simulate

pytestmark = pytest.mark.processes

AUTO, WAIT = Budget(), Extension(None, "Wait", 1)
WEAK: Shape = {AUTO: (0.4, 10.0), WAIT: (0.5, 20.0)}
STRONG: Shape = {AUTO: (0.6, 12.0), WAIT: (0.5, 20.0)}


def swept(folder: Path, name: str, shape: Shape, **other: object) -> Compared:
    (folder / name).mkdir()
    simulate(shape, **{"items": 100, **other}).to_parquet(folder / name / "samples.parquet")
    return Compared(name, folder / name)


def lines(text: str) -> dict[str, list[str]]:
    """The cells of each line of the tables, by its name."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {name: rest for name, *rest in cells}


def test_points_of_one_name_are_compared_item_by_item(tmp_path: Path) -> None:
    text = compare(swept(tmp_path, "weak", WEAK), swept(tmp_path, "strong", STRONG))
    assert text.startswith("strong against weak.")
    assert "letters: 100 items of both." in text
    found = lines(text)
    assert found["auto"][:2] == ["40.0%", "60.0%"]
    assert found["auto"][2].startswith("+20.0 (+")
    assert found["auto"][3:5] == ["<0.001", "<0.001"]
    assert found["auto"][6:] == ["20", "0"]
    assert found['1x"Wait"'][2:5] == ["+0.0 (-3.9 … +3.9)", "1.000", "1.000"]


def test_points_of_different_names_are_compared_when_named(tmp_path: Path) -> None:
    weak, strong = swept(tmp_path, "weak", WEAK), swept(tmp_path, "strong", STRONG)
    found = lines(compare(weak, strong, ("auto", '1x"Wait"')))
    assert found['1x"Wait" against auto'][:2] == ["40.0%", "50.0%"]
    with pytest.raises(StepError, match="letters has no '2x': there are auto, 1x\"Wait\""):
        compare(weak, strong, ("auto", "2x"))


def test_votes_are_compared_too(tmp_path: Path) -> None:
    sides = [swept(tmp_path, name, shape, samples=4) for name, shape in (("weak", WEAK), ("strong", STRONG))]
    assert set(lines(compare(*sides))) >= {"auto majority@2", "auto majority@4"}


def test_only_items_that_both_were_asked_count_in_whatever_order(tmp_path: Path) -> None:
    weak = swept(tmp_path, "weak", WEAK)
    strong = swept(tmp_path, "strong", STRONG)
    path = strong.output / "samples.parquet"
    frame = pd.read_parquet(path)
    kept = frame[frame["item"].isin([f"word{number}" for number in range(60)])]
    kept.sample(frac=1, random_state=0).to_parquet(path)
    text = compare(weak, strong)
    assert "letters: 60 items of both." in text
    before = pd.read_parquet(weak.output / "samples.parquet").query("policy == 'auto'").head(60)
    after = kept[kept["policy"] == "auto"]
    accuracies = [f"{100 * (each['verdict'] == 'correct').mean():.1f}%" for each in (before, after)]
    assert lines(text)["auto"][:2] == accuracies


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "words"}, "no task is in both: weak has letters, other has words"),
        ({"gold": "4"}, "the correct answer to item 'word0' is '3' in one and '4' in the other"),
        ({"item": "another"}, "letters has no item in both"),
        ({"policy": "8"}, 'letters has no policy in both: auto, 1x"Wait" against 8: name one of each with --points'),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    weak = swept(tmp_path, "weak", WEAK)
    frame = pd.read_parquet(weak.output / "samples.parquet").head(50).assign(**change)
    (tmp_path / "other").mkdir()
    frame.to_parquet(tmp_path / "other" / "samples.parquet")
    with pytest.raises(StepError, match=message):
        compare(weak, Compared("other", tmp_path / "other"))


def finish(folder: Path, name: str, shape: Shape, fingerprint: str) -> Path:
    """A finished sweep in a store, as a run of it would leave it."""
    step = context(folder, name, fingerprint)
    samples = step.output / "samples.parquet"
    step.output.mkdir()
    simulate(shape, items=100).to_parquet(samples)
    config = json.loads(CONFIG) | {"budgets": ["auto"], "extensions": {"strings": ["Wait"], "counts": [1]}}
    publish(EvaluateConfig.model_validate_json(json.dumps(config)), step, samples, {})
    finished = StepFolder(step.folder)
    finished.create({"job": "evaluate"})
    finished.mark_done()
    return step.folder


def command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "compare", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


def test_the_command_takes_steps_and_runs_of_mlflow(tmp_path: Path, empty_database: Path) -> None:
    weak = finish(tmp_path, "weak", WEAK, "0" * 16)
    strong = finish(tmp_path, "strong", STRONG, "1" * 16)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    client.create_experiment("scaling-sweep", artifact_location=(tmp_path / "artifacts").as_uri())
    Tracker(uri, "scaling-sweep").sync(strong, "strong", "1" * 16, "FINISHED")
    experiment = client.get_experiment_by_name("scaling-sweep").experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    of_steps = command(str(weak), str(strong), folder=tmp_path)
    assert of_steps.returncode == 0, of_steps.stderr
    assert of_steps.stdout.startswith(f"{strong.name} against {weak.name}.")
    of_run = command(str(weak), runs["strong · Wait"], "--tracking", uri, folder=tmp_path)
    assert of_run.returncode == 0, of_run.stderr
    assert of_run.stdout.startswith(f"strong · Wait against {weak.name}.")
    assert lines(of_run.stdout)["auto"] == lines(of_steps.stdout)["auto"]


def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path) -> None:
    weak = finish(tmp_path, "weak", WEAK, "0" * 16)
    (weak / "done.json").unlink()
    for words, message in (
        ((str(weak), str(weak)), "is not a finished step"),
        (("nothing", str(weak)), "'nothing' is neither a folder nor an MLflow run's id"),
    ):
        refused = command(*words, folder=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1
