"""What a step would be refused for when it starts is said before anything starts, with its line in the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.preflight import complaints
from orchestrator.store.step_folders import Store
from orchestrator.store.storage import storage_path
from tests.evaluate import tiny
from tests.evaluate.families import FAMILIES

LETTERS = [{"name": "letters", "items": 2}]
RANDOM = {"random": "qwen2", "layers": 1, "hidden_size": 64, "context": 512}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of three families: weights of one random one, tokenizers of their own."""
    folder = tmp_path_factory.mktemp("preflight")
    tiny.save(folder / "plain")
    for name, family in [("deepseek", "DeepSeek-V3.1"), ("gpt-oss", "gpt-oss")]:
        shutil.copytree(folder / "plain", folder / name)
        FAMILIES[family].tokenizer().save_pretrained(folder / name)
    return folder


def said(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: dict[str, Any]) -> list[str]:
    monkeypatch.chdir(folder)
    (folder / "x.yaml").write_text(json.dumps({"name": "x", "store": "store", "steps": steps}, indent=1))
    experiment = load(folder / "x.yaml")
    store = Store(storage_path(experiment.store))
    return [complaint.message for complaint in complaints(experiment, plan(experiment, store))]


def sweep(model: str, **fields: Any) -> dict[str, Any]:
    return {"job": "evaluate", "model": model, "tasks": LETTERS, **fields}


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("./plain", {"template": "think"}, None),
        ("./plain", {"template": "gpt-oss"}, "template: 'gpt-oss' needs '<|start|>'"),
        ("./plain", {"template": "think", "efforts": ["low"]}, "efforts: "),
        ("./plain", {"template": "think", "context_length": 1000}, "context_length: 1000 is beyond the 256 positions"),
        ("./deepseek", {"template": "deepseek-r1"}, "template: the prompt e"),
        ("./gpt-oss", {"template": "gpt-oss", "efforts": ["low", "high"]}, None),
        ("me/never-fetched", {"template": "think", "efforts": ["low"]}, None),
    ],
)
def test_what_the_tokenizer_tells_is_told_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, fields: dict[str, Any], expected: str | None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    messages = said(folder, monkeypatch, {"sweep": sweep(model, **fields)})
    if expected is None:
        assert messages == []
    else:
        assert [message[: len("steps.sweep.") + len(expected)] for message in messages] == [f"steps.sweep.{expected}"]


def test_a_sweep_of_what_is_yet_to_be_trained_is_checked_with_the_tokenizer_that_it_will_have(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = {"job": "letters", "train": 10}
    tuned = {"job": "finetune", "data": "${letters}", "model": "./plain"}
    steps = {"letters": letters, "first": tuned, "second": {**tuned, "model": "${first}"}}
    [message] = said(folder, monkeypatch, steps | {"sweep": sweep("${second}", template="gpt-oss")})
    assert message.startswith("steps.sweep.template: 'gpt-oss' needs '<|start|>'")
    drawn = {"letters": letters, "tiny": {**tuned, "model": RANDOM}}
    [message] = said(folder, monkeypatch, drawn | {"sweep": sweep("${tiny}", template="gpt-oss")})
    assert message.startswith("steps.sweep.template: 'gpt-oss' needs '<|start|>'")
    assert said(folder, monkeypatch, drawn | {"sweep": sweep("${tiny}", template="s1")}) == []


def test_a_teacher_is_checked_as_a_sweep_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = {"job": "distil", "model": "./plain", "questions": LETTERS, "template": "gpt-oss"}
    [message] = said(folder, monkeypatch, {"teacher": teacher})
    assert message.startswith("steps.teacher.template: 'gpt-oss' needs")


def test_what_a_checkpoint_recommends_is_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder / "plain", folder / "greedy")
    GenerationConfig(do_sample=False, eos_token_id=1).save_pretrained(folder / "greedy")
    greedy = sweep("./greedy", template="think", sampling="recommended", samples=2)
    messages = said(folder, monkeypatch, {"sweep": greedy})
    assert len(messages) == 1
    assert messages[0].startswith("steps.sweep.sampl")
