"""Publishing: the files of a finished sweep, and one tracked run per curve."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from jobs.evaluate.config import Config
from jobs.evaluate.publish import PUBLISHED, publish
from orchestrator.step import StepContext
from tests.evaluate.simulated import CONFIG, CURVES, LETTERS, context, simulate


@pytest.fixture
def published(tmp_path: Path) -> StepContext:
    simulate().to_parquet(tmp_path / "samples.parquet")
    step = context(tmp_path)
    publish(config(), step, tmp_path / "samples.parquet", {"seconds": 12.5, "units": 200, "engine": "transformers"})
    return step


def config(**changes: object) -> Config:
    return Config.model_validate_json(json.dumps(json.loads(CONFIG) | changes))


def runs(step: StepContext) -> dict[str, Path]:
    return {json.loads(path.read_text())["name"]: path.parent for path in step.folder.glob("tracked/*/run.json")}


def lines(folder: Path) -> list[dict[str, dict[str, float]]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_sweep_has_its_table_curves_and_plots(published: StepContext) -> None:
    assert sorted(path.name for path in published.output.iterdir()) == sorted(PUBLISHED)
    table = pd.read_csv(published.output / "table.csv").set_index("policy")
    assert table.loc['1x"Wait"', "accuracy"] == 0.955
    assert len(table) == len(LETTERS)


def test_each_curve_is_one_run_with_accuracy_at_its_mean_thinking_tokens(published: StepContext) -> None:
    assert set(runs(published)) == {f"sweep · {curve}" for curve in CURVES}
    wait = runs(published)["sweep · Wait"]
    measured = {line["step"]: line["values"]["accuracy"] for line in lines(wait) if "accuracy" in line["values"]}
    assert measured == {13: 0.47, 34: 0.955, 55: 0.9, 92: 0.56}
    first = lines(wait)[1]["values"]
    assert first["accuracy_low"] < 0.955 < first["accuracy_high"]
    for name in ("thinking_tokens", "answer_tokens", "forced_share", "no_answer_share", "difference", "p_value"):
        assert math.isfinite(first[name])
    assert lines(wait)[-1] == {**lines(wait)[-1], "step": 92, "values": {"sweep_seconds": 12.5, "sweep_units": 200.0}}


def test_of_points_at_the_same_place_the_last_is_shown_and_all_are_named(published: StepContext) -> None:
    budget = runs(published)["sweep · budget"]
    shown = [(line["step"], line["values"]["accuracy"]) for line in lines(budget) if "accuracy" in line["values"]]
    assert shown == [(4, 0.1), (8, 0.31), (13, 0.47)]
    assert json.loads((budget / "run.json").read_text())["params"]["points"] == "4, 8, 16, 32, auto"


def test_a_run_says_what_it_measured_and_carries_its_samples(published: StepContext) -> None:
    folder = runs(published)["sweep · Wait"]
    run = json.loads((folder / "run.json").read_text())
    assert run["group"] is None
    assert run["tags"] == {
        "sweep": "scaling-sweep/sweep",
        "color": "#D55E00",
        "model_fingerprint": "fedcba9876543210",
    }
    params = run["params"]
    assert (params["model"], params["task"], params["curve"], params["items"]) == ("tiny", "letters", "Wait", 200)
    assert len(params["task_hash"]) == 16
    samples = pd.read_parquet(folder / "artifacts" / "samples.parquet")
    assert set(samples["policy"]) == {"auto", '1x"Wait"', '2x"Wait"', '4x"Wait"'}
    assert len(samples) == 800
    assert {path.name for path in (folder / "artifacts").iterdir()} == {*PUBLISHED, "samples.parquet"}


def test_publishing_again_changes_no_file_and_logs_nothing_twice(published: StepContext, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in published.output.iterdir()}
    logged = {name: [line["values"] for line in lines(folder)] for name, folder in runs(published).items()}
    publish(config(), published, tmp_path / "samples.parquet", {"seconds": 12.5, "units": 200})
    assert {path: path.read_bytes() for path in published.output.iterdir()} == before
    assert {name: [line["values"] for line in lines(folder)] for name, folder in runs(published).items()} == logged


def test_with_several_tasks_runs_are_named_by_task_too(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "question": "?", "answer": 1}\n')
    shape = {policy: LETTERS[policy] for policy in LETTERS if policy.count == 0}
    frames = [simulate(shape, items=20, task=task) for task in ("letters", "mine")]
    pd.concat(frames).to_parquet(tmp_path / "samples.parquet")
    step = context(tmp_path)
    tasks = ["letters", {"name": "mine", "path": str(tmp_path / "mine.jsonl")}]
    publish(config(tasks=tasks, extensions=None), step, tmp_path / "samples.parquet", {})
    assert set(runs(step)) == {"sweep · letters · budget", "sweep · mine · budget"}
