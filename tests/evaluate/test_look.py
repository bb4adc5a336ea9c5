"""What a look at a sweep shows before it runs, and what a plan says of a template on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.look import look
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.evaluate import tiny
from tests.evaluate.sweep.test_chat_template import switched

FIELDS: dict[str, Any] = {
    "tasks": [{"name": "letters", "items": 2}, {"name": "mine", "path": "mine.jsonl", "type": "integer"}],
    "chat_template_kwargs": {"reasoning_effort": "low"},
    "system": "Be brief.",
    "date": "2026-05-01",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look")
    tiny.save(folder / "model")
    switched().save_pretrained(folder / "model")
    (folder / "mine.jsonl").write_text('{"id": "7", "question": "Why <think>?", "answer": "3"}\n')
    return folder


def shown(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    monkeypatch.chdir(folder)
    fields = FIELDS | {"model": str(folder / "model")} | changes
    context = StepContext("experiment", "sweep", "0", folder / "step", folder / "traces")
    text = look(EvaluateConfig.model_validate_json(json.dumps(fields)), context)
    assert not (folder / "traces").exists()
    return text


def test_one_prompt_of_each_task_is_shown_with_its_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(folder, monkeypatch)
    assert "think: opens with '<think>', closes with '</think>'" in text
    assert "reasoning_effort: 'low'; the chat template knows reasoning_effort" in text
    assert "the chat template writes the day, and is given 2026-05-01 whatever the day is" in text
    assert text.count("⟦<|im_start|>⟧assistant⟦<think>⟧") == 2
    assert "⟦<|im_start|>⟧system\nToday is 2026-05-01, low. Be brief.⟦<|im_end|>⟧" in text
    assert "the prompt of mine's item 7: " in text
    assert text.index("the prompt of letters's item") < text.index("the prompt of mine's item 7")


def test_a_sweep_that_would_be_refused_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepError, match="chat template refuses reasoning_effort: 'max'"):
        shown(folder, monkeypatch, chat_template_kwargs={"reasoning_effort": "max"})


def test_the_plan_says_the_date_and_refuses_an_unknown_switch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def experiment(**changes: Any) -> Path:
        sweep = {"job": "evaluate", "model": "./model"} | FIELDS | changes
        (folder / "experiment.yaml").write_text(json.dumps({"name": "looks", "steps": {"sweep": sweep}}))
        return folder / "experiment.yaml"

    monkeypatch.chdir(folder)
    said = "date: the model's chat template writes the day: prompts say 2026-05-01, whatever the day is"
    assert any(note.endswith(said) for note in load(experiment()).notes)
    with pytest.raises(ExperimentError) as refused:
        load(experiment(chat_template_kwargs={"reasoning_efort": "low"}))
    (line,) = str(refused.value).splitlines()
    assert "steps.sweep.chat_template_kwargs.reasoning_efort: the model's chat template has no such switch" in line
    assert "did you mean 'reasoning_effort'?" in line
