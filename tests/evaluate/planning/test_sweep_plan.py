"""What a plan says of a sweep that was changed: which field it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.experiment import load
from orchestrator.plan import PlannedStep, plan
from orchestrator.store.step_folders import Store


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A finished sweep with a model folder and a task file."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_text("{}")
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "question": "1+1?", "answer": "2"}\n')
    step = {
        "job": "evaluate",
        "model": str(model),
        "tasks": [{"name": "mine", "path": str(tmp_path / "mine.jsonl")}],
        "budgets": [4, "auto"],
        "samples": 2,
        "temperature": 0.5,
    }
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps({"name": "sweep", "steps": {"sweep": step}}))
    item = planned(file)
    item.folder.create(item.identity)
    (item.folder.output / "result").write_text("42")
    item.folder.mark_done()
    return file


def planned(file: Path, *overrides: str) -> PlannedStep:
    (item,) = plan(load(file, overrides), Store(file.parent / "runs"))
    return item


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=1", "seed 0 → 1"),
        ("temperature=0.7", "temperature 0.5 → 0.7"),
        ("top_p=0.9", "top_p 1.0 → 0.9"),
        ("samples=3", "samples 2 → 3"),
        ("budgets=[4,8,auto]", 'budgets [4, "auto"] → [4, 8, "auto"]'),
        ("extensions={strings: [Wait], counts: [1]}", "extensions null → "),
        ("conditional={tokens: [64]}", "conditional null → "),
        ("template=s1", 'template.name "think" → "s1"'),
        ("engine=vllm", 'engine "auto" → "vllm"'),
    ],
)
def test_a_field_that_changed_is_named(experiment: Path, override: str, said: str) -> None:
    item = planned(experiment, f"steps.sweep.{override}")
    assert item.verdict == "would run"
    assert item.reason.startswith(f"changed: {said}")
    assert planned(experiment).verdict == "done"


@pytest.mark.parametrize(
    ("file", "said"), [("model/model.safetensors", "external.model "), ("mine.jsonl", "external.tasks.0.path ")]
)
def test_a_file_whose_content_changed_is_named(experiment: Path, file: str, said: str) -> None:
    path = experiment.parent / file
    path.write_text(path.read_text().replace("{", '{"more": 1, ', 1).replace(", }", "}"))
    item = planned(experiment)
    assert item.verdict == "would run"
    assert item.reason.startswith(f"changed: {said}")


@pytest.mark.parametrize("override", ["resources.in_flight=8", "resources.replicas={min: 2, max: 4}"])
def test_where_and_how_fast_changes_nothing(experiment: Path, override: str) -> None:
    assert planned(experiment, f"steps.sweep.{override}").verdict == "done"
