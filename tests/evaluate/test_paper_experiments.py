"""The paper's tables and figures as experiments: each is read, planned, and, scaled down, run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.run import run
from jobs.evaluate.stopping.replay import rules
from orchestrator.experiment import Experiment, load
from orchestrator.job.context import StepContext
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.conftest import ROOT
from tests.evaluate import tiny
from tests.evaluate.chat.chat_server import ChatServer, said

FILES = sorted((ROOT / "experiments" / "s1").glob("*.yaml"))
EVALUATIONS = [file for file in FILES if set(re.findall(r"job: (\w+)", file.read_text())) == {"evaluate"}]
ON_APIS = "results_apis"
TASKS = ("aime24", "math500", "gpqa_diamond")
ITEM = {
    "id": "a",
    "question": "1+1?",
    "answer": "2",
    "problem": "1+1?",
    "unique_id": "a",
    "Record ID": "a",
    "Question": "1+1?",
    "Correct Answer": "2",
    "Incorrect Answer 1": "3",
    "Incorrect Answer 2": "4",
    "Incorrect Answer 3": "5",
}
"""With the columns of every benchmark."""
EVERYTHING = {
    "budgets": [500, 1000, 1024, 2000, 2048, 4000, 4096, 8000, 8192, 16000, 16384, "auto"],
    "extensions": {"strings": ["Wait", "Hmm", "Alternatively", ""], "counts": [1, 2, 4, 6]},
    "conditional": {
        "tokens": [1024, 2048, 4096, 8192, 16384],
        "steps": [16, 32, 64, 128, 256, 512],
        "classes": ["short", "long"],
        "budget_forcing": True,
    },
    "baseline": True,
}
"""All that any of the experiments asks s1's models greedily: decoded once, so that none of them decodes it again."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """One item that is of all three benchmarks."""
    path = tmp_path_factory.mktemp("task") / "item.jsonl"
    path.write_text(json.dumps(ITEM) + "\n")
    return [{"name": name, "path": str(path)} for name in TASKS]


@pytest.fixture(scope="module")
def store(cluster: None, tmp_path_factory: pytest.TempPathFactory, model: Path, tasks: list[dict[str, str]]) -> Path:
    """With the traces of :data:`EVERYTHING`."""
    folder = tmp_path_factory.mktemp("store")
    fields = {"model": str(model), "tasks": tasks, "template": "s1", "max_answer_tokens": 8, **EVERYTHING}
    (folder / "everything").mkdir()
    context = StepContext("experiment", "everything", "0", folder / "everything", folder / "traces")
    run(EvaluateConfig.model_validate_json(json.dumps(fields)), context)
    return folder


def scaled_down(file: Path, model: Path, tasks: list[dict[str, str]], server: str) -> Experiment:
    """The experiment with a tiny model, one item a task and two samples an item, for CPUs."""
    given = load(file)
    settings = []
    for name, step in given.steps.items():
        config = step.config
        assert isinstance(config, EvaluateConfig)
        asked = [task.name for task in config.tasks]
        changes: dict[str, object] = {"tasks": [task for task in tasks if task["name"] in asked], "resources": {}}
        if config.chat is not None:
            changes["resources"] = {"server": {"url": server}}
        else:
            changes |= {"model": str(model), "max_answer_tokens": 8, "context_length": "auto"}
        if config.samples > 1:
            changes["samples"] = 2
        if getattr(config, "stopping", None):
            changes["stopping"] = ["asc", {"rule": "esc", "window": 2}]
        if config.search is not None:
            steps = {"at": "\n", "tokens": 16, "most": 2}
            changes |= {"search": {"scorer": {"kind": "exact"}, "steps": steps}, "rebase.widths": [2]}
            changes |= {"at_k": None, "published": None}  # of 16, where 2 are left
        if config.rejection is not None:
            changes["rejection.max_tries"] = 2
        settings += [f"steps.{name}.{field}={json.dumps(value)}" for field, value in changes.items()]
    return load(file, tuple(settings))


@pytest.mark.parametrize("file", EVALUATIONS, ids=lambda file: file.stem)
def test_each_is_planned_as_it_is_and_has_every_value_that_was_published_for_it(file: Path, tmp_path: Path) -> None:
    experiment = load(file)
    assert experiment.notes == (), "each published value is of a point that the sweep has"
    planned = plan(experiment, Store(tmp_path))
    assert {step.verdict for step in planned} == {"would run"}
    for step in planned:
        config = step.step.config
        assert isinstance(config, EvaluateConfig)
        scorer = config.resources.scorer.gpus
        assert file.stem == ON_APIS or config.demands() == [{"CPU": 1.0, "GPU": 2.0 + scorer}]


@pytest.mark.parametrize("file", EVALUATIONS, ids=lambda file: file.stem)
def test_each_runs_scaled_down(file: Path, store: Path, model: Path, tasks: list[dict[str, str]]) -> None:
    with ChatServer(lambda body: said("Answer: 2", thinking=3)).serving() as server:
        experiment = scaled_down(file, model, tasks, server)
        for name, step in experiment.steps.items():
            config = step.config
            assert isinstance(config, EvaluateConfig)
            folder = store / f"{file.stem}-{name}"
            folder.mkdir()
            context = StepContext(experiment.name, name, f"{file.stem}-{name}", folder, store / "traces")
            run(config, context)
            samples = pd.read_parquet(context.output / "samples.parquet")
            replayed = rules(config.policies)
            decoded = [policy for policy in config.policies if policy not in replayed]
            rows = sum(config.samples_of(policy.root) for policy in decoded)
            assert samples["policy"].isin([policy.name for policy in decoded]).sum() == rows * len(config.tasks)
            assert set(samples["policy"]) == {policy.name for policy in config.policies}
            if config.published is not None:
                values = json.loads((context.output / "published.json").read_text())["values"]
                expected = sum(len(points) for points in config.published.accuracy.values())
                assert sum(value["quantity"] == "accuracy" for value in values) == expected
                assert {value["verdict"] for value in values} <= {"within noise", "higher", "lower", "unknown"}
                assert config.published.source in (context.output / "table.md").read_text()


def test_a_model_that_marks_no_thinking_only_answers(store: Path, model: Path, tasks: list[dict[str, str]]) -> None:
    fields = {"model": str(model), "tasks": tasks, "template": "none", "max_answer_tokens": 8, "baseline": True}
    (store / "unmarked").mkdir()
    context = StepContext("experiment", "unmarked", "1", store / "unmarked", store / "traces")
    run(EvaluateConfig.model_validate_json(json.dumps(fields)), context)
    samples = pd.read_parquet(context.output / "samples.parquet")
    assert set(samples["thinking_tokens"]) == {0}
    assert set(samples["thinking_end"]) == {"natural"}
    assert samples["answer_tokens"].max() == 8, "where the model does not end its turn at once"
    by_policy = dict(tuple(samples.groupby("policy")["answer"]))
    assert by_policy["auto"].tolist() == by_policy["no forcing"].tolist()
