"""Grading a finished sweep again, from the command line: what changes, and that everything says the same afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading import GRADER_VERSION
from jobs.evaluate.publish import publish
from jobs.evaluate.samples import SCHEMA
from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.plan import PlannedStep, plan
from orchestrator.store.step_folders import Store
from orchestrator.tracking.tracker import Tracker
from tests.conftest import ROOT
from tests.evaluate import tiny

ANSWERS = {
    "half": (r"\frac{1}{2}", r"\boxed{0.5}"),
    "root": (r"3\sqrt{13}", r"Answer: $\sqrt{117}$"),
    "moon": (r"\text{moon}", "I cannot say."),
    "endless": (r"\sum_{k=1}^{3} k", r"\boxed{\sum_{k=1}^{10^{12}} k^k}"),
}
"""Gold answer, and what was answered under each policy."""

EXPERIMENT = """
name: halves
steps:
  sweep:
    job: evaluate
    model: {model}
    tasks: [{{name: sums, path: {questions}, type: math}}]
    budgets: [4, auto]
"""


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """An experiment whose sweep was finished by a grader that could only compare texts."""
    questions = tmp_path / "sums.jsonl"
    questions.write_text(
        "".join(json.dumps({"id": name, "question": "?", "answer": gold}) + "\n" for name, (gold, _) in ANSWERS.items())
    )
    file = tmp_path / "halves.yaml"
    file.write_text(EXPERIMENT.format(model=tiny.save(tmp_path / "model"), questions=questions))
    step = planned(tmp_path)
    step.folder.create(step.identity)
    rows = [
        {
            "item": name,
            "sample": 0,
            "policy": policy,
            "thinking_tokens": tokens,
            "injected_tokens": 0,
            "answer_tokens": 3,
            "thinking_end": "forced",
            "answer_end": "stop",
            "extensions_used": 0,
            "extensions_skipped": 0,
            "continued": False,
            "asked": None,
            "tries": 1,
            "answer": answer,
            "task": "sums",
            "gold": gold,
            "extracted": answer,
            "rule": "boxed",
            "meaning": answer,
            "verdict": "wrong",
            "score": None,
            "scorer_tokens": 0,
        }
        for name, (gold, answer) in ANSWERS.items()
        for policy, tokens in (("4", 4), ("auto", 9))
    ]
    frame = pd.DataFrame(rows)
    frame.to_parquet(step.folder.output / "samples.parquet", schema=SCHEMA)
    (step.folder.output / "decode.json").write_text('{"seconds": 3.5}')
    (step.folder.output / "grading.json").write_text('{"grader": 1}')
    config = step.step.config
    assert isinstance(config, EvaluateConfig)
    context = StepContext("halves", "sweep", step.fingerprint, step.folder.path, tmp_path / "runs" / "traces")
    publish(config, context, step.folder.output / "samples.parquet", {"seconds": 3.5})
    step.folder.mark_done()
    step.folder.write_status(state="done")
    Tracker(f"sqlite:///{tmp_path}/mlflow.db", "halves").sync(step.folder.path, "sweep", step.fingerprint, "FINISHED")
    return tmp_path


def planned(folder: Path) -> PlannedStep:
    (step,) = plan(load(folder / "halves.yaml"), Store(folder / "runs"))
    return step


def graded(folder: Path) -> tuple[int, str]:
    """The exit status and the output of ``grade``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "grade", "halves.yaml"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def accuracies(folder: Path) -> list[float]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("halves").experiment_id])
    assert run.data.tags["grader"] in ("1", str(GRADER_VERSION))
    return [
        metric.value for metric in sorted(client.get_metric_history(run.info.run_id, "accuracy"), key=lambda m: m.step)
    ]


def test_a_better_grader_changes_verdicts_and_everything_that_follows_from_them(finished: Path) -> None:
    assert accuracies(finished) == [0, 0]
    before = planned(finished)
    assert before.verdict == "done"

    status, output = graded(finished)

    assert status == 0, output
    assert f"graded by grader 1, now by grader {GRADER_VERSION}, math_verify" in output
    assert "8 of 8 verdicts differ" in output
    assert "wrong → correct: 2, wrong → no_answer: 1, wrong → error: 1" in output
    assert "0.0% → 66.7%" in output
    step = planned(finished)
    assert (step.verdict, step.fingerprint) == ("done", before.fingerprint)
    samples = pd.read_parquet(step.folder.output / "samples.parquet")
    assert dict(zip(samples["item"], samples["verdict"], strict=True)) == {
        "half": "correct",
        "root": "correct",
        "moon": "no_answer",
        "endless": "error",
    }
    assert pd.read_csv(step.folder.output / "table.csv")["accuracy"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert accuracies(finished) == pytest.approx([2 / 3, 2 / 3])
    changed = pd.read_csv(step.folder.path / "regraded.csv")
    assert changed["item"].tolist() == [name for name in ANSWERS for _ in range(2)]
    assert not (step.folder.path / "regraded").exists()

    files = {path: path.stat().st_mtime_ns for path in step.folder.output.iterdir()}
    status, output = graded(finished)
    assert status == 0
    assert "0 of 8 verdicts differ" in output
    assert {path: path.stat().st_mtime_ns for path in step.folder.output.iterdir()} == files


def test_a_sweep_that_is_not_finished_has_nothing_to_grade(finished: Path) -> None:
    planned(finished).folder.unmark_done()
    status, output = graded(finished)
    assert status == 1
    assert "sweep: is not done, so there is nothing to grade again: run it first" in output
