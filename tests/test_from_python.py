"""An experiment from Python: loaded, run, and its results as frames; and the notebook that shows it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest

from jobs.evaluate.run import run as evaluate
from orchestrator import load, results, run
from orchestrator.complaints import ExperimentError
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from orchestrator.store.storage import storage_path
from tests.conftest import ROOT
from tests.evaluate.sweep.stored import DECODED, QUESTIONS, STORED

NOTEBOOK = ROOT / "examples" / "sweep.ipynb"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment whose sweep is done, of traces that were decoded long ago."""
    folder = tmp_path_factory.mktemp("finished")
    rows = [{"id": f"q{number}", "question": text, "answer": str(number)} for number, text in enumerate(QUESTIONS)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(STORED / "traces", folder / "runs" / "traces")
    task = {"name": "sums", "path": "questions.jsonl", "type": "integer"}
    sweep = {"job": "evaluate", "model": str(STORED / "model"), "tasks": [task], **DECODED}
    (folder / "experiments").mkdir()
    (folder / "experiments" / "scaling_sweep.yaml").write_text(json.dumps({"name": "sums", "steps": {"sweep": sweep}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("ORCHESTRATOR_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        experiment = load("experiments/scaling_sweep.yaml")
        store = Store(storage_path(experiment.store))
        (step,) = plan(experiment, store)
        assert results(experiment) == {}
        step.folder.create(step.identity)
        evaluate(step.step.config, step.context(experiment, store))
        step.folder.mark_done()
    return folder


@pytest.fixture
def experiment(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(finished)
    for name in ("ORCHESTRATOR_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return load("experiments/scaling_sweep.yaml")


def test_results_are_frames_that_say_what_the_files_say(experiment: Any, finished: Path) -> None:
    sweep = results(experiment)["sweep"]
    (table,) = finished.glob("runs/sweep-*/output/table.csv")
    with table.open() as lines:
        written = [
            (row["task"], row["policy"], row["score"], row["k"], row["accuracy_low"]) for row in csv.DictReader(lines)
        ]
    said = sweep.points[["task", "policy", "score", "k", "accuracy_low"]].itertuples(index=False)
    assert [(task, policy, score, float(k), float(low)) for task, policy, score, k, low in written] == list(said)
    points = sweep.points[sweep.points.score == "accuracy"].set_index("policy").accuracy
    right = (sweep.samples.verdict == "correct").groupby(sweep.samples.policy).mean()  # counted anew, from the rows
    pd.testing.assert_series_equal(points.sort_index(), right.sort_index(), check_names=False, atol=1e-5)
    assert (sweep.comparisons.difference_low <= sweep.comparisons.difference_high).all()


def test_what_is_done_is_not_run_again(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(experiment) is True
    assert "everything is done, nothing to run" in capsys.readouterr().out


def test_values_are_changed_as_on_the_command_line(experiment: Any) -> None:
    changed = load(experiment.file, {"steps.sweep.budgets": [4], "name": "others: {x"})
    assert (changed.name, changed.steps["sweep"].config.budgets) == ("others: {x", (4,))
    assert results(changed) == {}  # another sweep, which was not run
    assert changed.overrides == ("steps.sweep.budgets=[4]", 'name="others: {x"')
    with pytest.raises(ExperimentError, match="budgets"):
        load(experiment.file, {"steps.sweep.budgets": -1})


def test_the_notebook_runs(experiment: Any) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)
    names: dict[str, Any] = {}
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(code):
            exec(compile(cell, f"cell {number}", "exec"), names)
        assert len(names["axes"].lines) > 3


def test_importing_the_package_loads_nothing() -> None:
    heavy = "{'ray', 'torch', 'pandas', 'mlflow', 'pydantic'}"
    asked = f"import sys, orchestrator; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"
