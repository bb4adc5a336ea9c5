"""Publishing: the files of a finished sweep, and one tracked run per curve."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.publish import PUBLISHED, publish
from orchestrator.job.context import StepContext
from orchestrator.tracking.tracker import Tracker
from tests.evaluate.simulated import CONFIG, CURVES, LETTERS, context, simulate

WITHOUT_PUBLISHED = [name for name in PUBLISHED if name != "published.json"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> StepContext:
    folder = tmp_path_factory.mktemp("published")
    simulate().to_parquet(folder / "samples.parquet")
    step = context(folder)
    publish(config(), step, folder / "samples.parquet", {"seconds": 12.5, "units": 200, "engine": "transformers"})
    return step


def config(**changes: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate_json(json.dumps(json.loads(CONFIG) | changes))


def runs(step: StepContext) -> dict[str, Path]:
    return {json.loads(path.read_text())["name"]: path.parent for path in step.folder.glob("tracked/*/run.json")}


def lines(folder: Path) -> list[dict[str, dict[str, float]]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_sweep_has_its_table_curves_and_plots(published: StepContext) -> None:
    assert sorted(path.name for path in published.output.iterdir()) == sorted(WITHOUT_PUBLISHED)
    table = pd.read_csv(published.output / "table.csv").set_index("policy")
    assert table.loc['1x"Wait"', "accuracy"] == 0.955
    assert len(table) == len(LETTERS)


def test_what_a_checkpoint_recommended_is_tracked_with_every_run(tmp_path: Path) -> None:
    simulate().to_parquet(tmp_path / "samples.parquet")
    step = context(tmp_path)
    drawn = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0}
    drawn |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
    publish(config(sampling="recommended"), step, tmp_path / "samples.parquet", {"seconds": 1.0, "sampling": drawn})
    for folder in runs(step).values():
        params = json.loads((folder / "run.json").read_text())["params"]
        told = {name: params[name] for name in ("sampling", "temperature", "top_p", "top_k")}
        assert told == {"sampling": "recommended", "temperature": 0.6, "top_p": 0.95, "top_k": 20}
        assert "min_p" not in params


def test_each_curve_is_one_run_with_accuracy_at_its_mean_thinking_tokens(published: StepContext) -> None:
    assert set(runs(published)) == {f"sweep · {curve}" for curve in CURVES}
    wait = runs(published)["sweep · Wait"]
    measured = {line["step"]: line["values"]["accuracy"] for line in lines(wait) if "accuracy" in line["values"]}
    assert measured == {13: 0.47, 34: 0.955, 55: 0.9, 92: 0.56}
    first = lines(wait)[1]["values"]
    assert first["accuracy_low"] < 0.955 < first["accuracy_high"]
    for name in ("thinking_tokens", "answer_tokens", "forced_share", "no_answer_share", "difference", "p_value"):
        assert math.isfinite(first[name])
    last = lines(wait)[-1]
    assert last == {**last, "step": 92, "values": {**last["values"], "sweep_seconds": 12.5, "sweep_units": 200.0}}


def test_control_scaling_and_performance_of_a_method_are_with_the_run_of_its_curve(published: StepContext) -> None:
    methods = {row["method"]: row for row in json.loads((published.output / "methods.json").read_text())}
    for name, folder in runs(published).items():
        curve = name.removeprefix("sweep · ")
        measured = lines(folder)[-1]["values"]
        expected = {field: value for field, value in methods[curve].items() if isinstance(value, float)}
        if curve != "budget":
            both = methods[f"budget + {curve}"]
            expected |= {f"with_budgets_{field}": value for field, value in both.items() if isinstance(value, float)}
        assert {"control", "scaling_per_1000_tokens", "scaling_per_doubling", "performance"} < set(expected)
        assert {name: value for name, value in measured.items() if not name.startswith("sweep_")} == expected
    assert lines(runs(published)["sweep · Wait"])[-1]["values"]["performance"] == 0.955


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
    assert {path.name for path in (folder / "artifacts").iterdir()} == {*WITHOUT_PUBLISHED, "samples.parquet"}


@pytest.mark.seconds
def test_publishing_again_changes_no_file_and_logs_nothing_twice(published: StepContext) -> None:
    before = {path: path.read_bytes() for path in published.output.iterdir()}
    logged = {name: [line["values"] for line in lines(folder)] for name, folder in runs(published).items()}
    publish(config(), published, published.folder.parent / "samples.parquet", {"seconds": 12.5, "units": 200})
    assert {path: path.read_bytes() for path in published.output.iterdir()} == before
    assert {name: [line["values"] for line in lines(folder)] for name, folder in runs(published).items()} == logged


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> StepContext:
    folder = tmp_path_factory.mktemp("sampled")
    simulate(items=60, samples=8).to_parquet(folder / "samples.parquet")
    step = context(folder)
    publish(config(samples=8, temperature=1.0), step, folder / "samples.parquet", {"seconds": 12.5})
    return step


def test_several_samples_add_a_run_each_for_pass_and_majority_over_all_tokens_thought(sampled: StepContext) -> None:
    assert set(runs(sampled)) == {f"sweep · {curve}" for curve in (*CURVES, "pass@k", "majority@k")}
    majority = runs(sampled)["sweep · majority@k"]
    measured = {line["step"]: line["values"] for line in lines(majority) if "accuracy" in line["values"]}
    assert {step: values["k"] for step, values in measured.items()} == {13: 1, 26: 2, 52: 4, 104: 8}
    assert measured[13]["accuracy"] == measured[26]["accuracy"] == pytest.approx(0.47, abs=0.01)
    assert measured[104]["accuracy_low"] < measured[104]["accuracy"] < measured[104]["accuracy_high"]
    assert measured[104]["accuracy"] > measured[13]["accuracy"]
    assert json.loads((majority / "run.json").read_text())["params"]["points"] == "@1, @2, @4, @8"
    assert set(pd.read_parquet(majority / "artifacts" / "samples.parquet")["policy"]) == {"auto"}


def test_every_point_carries_its_own_pass_and_majority(sampled: StepContext) -> None:
    points = [line["values"] for line in lines(runs(sampled)["sweep · Wait"]) if "accuracy" in line["values"]]
    for point in points:
        assert point["accuracy"] <= point["pass_at_2"] <= point["pass_at_4"] <= point["pass_at_8"] <= 1
        assert point["majority_at_2"] == pytest.approx(point["accuracy"], abs=1e-6)
        assert "k" not in point
    table = pd.read_csv(sampled.output / "table.csv").set_index(["policy", "score", "k"])
    assert len(table) == len(LETTERS) * 9
    wait = table.loc[('1x"Wait"', "pass@k", 8)]
    assert wait["accuracy"] == pytest.approx(points[1]["pass_at_8"], abs=1e-6)
    assert wait["thinking_tokens"] == 8 * 34
    (record,) = (
        curve for curve in json.loads((sampled.output / "curves.json").read_text()) if curve["curve"] == "Wait"
    )
    at_k = record["points"][1]["at_k"]
    assert [each["k"] for each in at_k] == list(range(1, 9))
    assert at_k[7]["pass"] == wait["accuracy"]
    assert at_k[7]["pass_low"] <= at_k[7]["pass"] <= at_k[7]["pass_high"]


@pytest.mark.seconds
def test_mlflow_takes_them_as_runs_that_overlay_the_other_curves(
    sampled: StepContext, tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(uri).create_experiment("scaling-sweep", artifact_location=(tmp_path / "artifacts").as_uri())
    Tracker(uri, "scaling-sweep").sync(sampled.folder, sampled.name, sampled.fingerprint, "FINISHED")
    client = MlflowClient(uri)
    found = {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("scaling-sweep").experiment_id])
    }
    assert set(found) == set(runs(sampled))
    history = client.get_metric_history(found["sweep · pass@k"].info.run_id, "accuracy")
    assert sorted(metric.step for metric in history) == [13, 26, 52, 104]
    assert len({run.data.tags["mlflow.runColor"] for run in found.values()}) == len(found)


@pytest.mark.seconds
def test_with_several_tasks_runs_are_named_by_task_too(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "question": "?", "answer": 1}\n')
    shape = {policy: LETTERS[policy] for policy in LETTERS if policy.count == 0}
    frames = [simulate(shape, items=20, task=task) for task in ("letters", "mine")]
    pd.concat(frames).to_parquet(tmp_path / "samples.parquet")
    step = context(tmp_path)
    tasks = ["letters", {"name": "mine", "path": str(tmp_path / "mine.jsonl")}]
    publish(config(tasks=tasks, extensions=None), step, tmp_path / "samples.parquet", {})
    assert set(runs(step)) == {"sweep · letters · budget", "sweep · mine · budget"}


def test_all_pairs_and_methods_are_written_for_programs(published: StepContext) -> None:
    record = json.loads((published.output / "comparisons.json").read_text())
    assert (record["resamples"], record["confidence"], record["power"]) == (10_000, 0.95, 0.8)
    assert len(record["comparisons"]) == len(LETTERS) * (len(LETTERS) - 1) // 2
    table = pd.read_parquet(published.output / "comparisons.parquet")
    assert table.to_dict("records")[0] == record["comparisons"][0]
    methods = json.loads((published.output / "methods.json").read_text())
    assert [each["method"] for each in methods] == [
        *CURVES,
        *(f"budget + {name}" for name in CURVES if name != "budget"),
    ]
    assert "ways of spending more thinking" in (published.output / "table.md").read_text()


@pytest.mark.seconds
def test_published_values_lie_beside_the_results(tmp_path: Path) -> None:
    simulate().to_parquet(tmp_path / "samples.parquet")
    step = context(tmp_path)
    others = {
        "source": "Somebody 2025, table 1",
        "accuracy": {"letters": {"auto": 45.0, '1x"Wait"': {"accuracy": 60.0, "tokens": 30}, "512": 50.0}},
        "methods": {"letters": {"budget": {"control": 100, "scaling": 90.0, "performance": 46.0}}},
    }
    with_values = config(published=others)
    assert with_values.notes() == ["published: 512 on letters is not in this sweep, so nothing is laid beside it"]
    publish(with_values, step, tmp_path / "samples.parquet", {})
    record = json.loads((step.output / "published.json").read_text())
    assert record["source"] == "Somebody 2025, table 1"
    verdicts = {(each["name"], each["quantity"]): each["verdict"] for each in record["values"]}
    assert verdicts == {
        ("auto", "accuracy"): "within noise",
        ('1x"Wait"', "accuracy"): "higher",
        ("budget", "Control"): "within noise",
        ("budget", "Scaling"): "lower",
        ("budget", "Performance"): "within noise",
    }
    assert "Somebody 2025, table 1" in (step.output / "table.md").read_text()
    wait = runs(step)["sweep · Wait"]
    assert (wait / "artifacts" / "published.json").exists()
