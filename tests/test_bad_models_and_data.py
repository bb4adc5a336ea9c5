"""What a user gets wrong about a model or about data is one line of ``plan``, before anything starts or is paid for."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from orchestrator.__main__ import main
from tests.curate.test_curate import example
from tests.evaluate import tiny
from tests.evaluate.engines.test_adapter import save_adapter
from tests.evaluate.families import FAMILIES

SERVED = {"engine": "openai", "served_model": "m", "resources": {"server": {"url": "http://10.0.0.7:8000/v1"}}}
PAID = {"engine": "openai", "served_model": "m", "chat": {}, "resources": SERVED["resources"]}
EFFORTS = (
    "{% if reasoning_effort is defined and reasoning_effort in ['xhigh', 'max'] %}"
    "{{ raise_exception('low, medium or high') }}{% endif %}{{ reasoning_effort | default('medium') }}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of bytes, others by their tokenizers, an adapter for another base, and some files."""
    folder = tmp_path_factory.mktemp("wrong")
    plain = tiny.save(folder / "plain")
    for name, chat_template in (("deepseek", FAMILIES["DeepSeek-V3.1"].chat_template), ("efforts", EFFORTS)):
        shutil.copytree(plain, folder / name)
        tokenizer = FAMILIES["DeepSeek-V3.1"].tokenizer()
        tokenizer.chat_template = chat_template + (tiny.TEMPLATE if name == "efforts" else "")
        tokenizer.save_pretrained(folder / name)
    adapter = save_adapter(plain, folder / "adapter")
    wide = {name: each.repeat(1, 2) for name, each in load_file(adapter / "adapter_model.safetensors").items()}
    save_file(wide, adapter / "adapter_model.safetensors")
    rows = [{"n": number, "problem": f"{number} + 1?", "solution": str(number + 1)} for number in range(4)]
    write(folder / "mine.jsonl", rows)
    write(folder / "unread.jsonl", [{"id": "a", "question": "1 + 1?", "answer": "two"}])
    write(folder / "traces.jsonl", [example(number, subject="algebra") for number in range(4)])
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def said(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: dict[str, Any]) -> str:
    """What ``plan`` says, of which all but one line is to be about where that is."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (folder / "x.yaml").write_text(json.dumps({"name": "x", "store": "store", "steps": steps}))
    result = CliRunner().invoke(main, ["plan", "x.yaml"])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    told = re.findall(r"x\.yaml:\d+: (steps\..*)", result.output.replace("\n  ", " "))
    assert len(told) == 1, result.output
    assert not list(folder.glob("store/*/output"))
    return str(told[0])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"chat_template_kwargs": {"enable_thinkin": True}}, "chat_template_kwargs.enable_thinkin: the model's chat"),
        ({"model": "./deepseek", "chat_template_kwargs": {"thinkin": True}}, "did you mean 'thinking'?"),
        ({"model": "./efforts", "efforts": ["low", "max"]}, "efforts: max: .*low, medium or high"),
        ({"efforts": ["low"]}, "efforts: low is for reasoning_effort, which the model's chat template does not have"),
        ({"budgets": [8], "closings": ["So <think> on"]}, "closings: 'So <think> on' contains '<think>', which opens"),
        ({"template": {"open": "<a>", "close": "x<a>"}}, "close 'x<a>' contains open '<a>'"),
        ({"template": "gpt-oss"}, "'gpt-oss' needs '<|start|>', for which the model's vocabulary has no token"),
        ({"template": {"open": "<a>", "close": "</a>"}}, "'<a>', for which the model's vocabulary has no token"),
        ({**SERVED, "presence_penalty": 1}, "presence_penalty: engine openai does not have it for whole traces"),
        (
            {"tasks": [{"name": "mine", "path": "mine.jsonl", "type": "integer"}]},
            "mine.jsonl:1: id is missing, there are n, problem, solution: ",
        ),
        ({"model": {"base": "./plain", "adapter": "./adapter"}}, "'./adapter' is for models of hidden size 128, and"),
    ],
)
def test_a_model_that_cannot_do_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], expected: str
) -> None:
    sweep = {"job": "evaluate", "model": "./plain", "tasks": [{"name": "letters", "items": 2}], "template": "think"}
    literal = expected if ".*" in expected else re.escape(expected)
    assert re.search(literal, said(folder, monkeypatch, {"sweep": sweep | fields}))


ASKED = {"name": "mine", "path": "mine.jsonl", "type": "integer"}
COLUMNS = {"columns": {"question": "problem", "answer": "solution"}}
JUDGED = ASKED | COLUMNS | {"type": "judged"}
CURATE = {"job": "curate", "data": "traces.jsonl"}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"job": "collect", "sources": [ASKED]}, "mine.jsonl:1 has no column question; there are n, problem, solution"),
        (
            {"job": "collect", "sources": [ASKED | COLUMNS | {"keep": ["subject"]}]},
            "has no column subject; there are n, problem, solution: leave it out of keep",
        ),
        (
            {"job": "distil", "model": "./nowhere", "questions": ASKED | COLUMNS},
            "model: './nowhere' .*",
        ),
        (
            {"job": "distil", **PAID, "questions": {"name": "u", "path": "unread.jsonl", "type": "integer"}},
            "unread.jsonl:1: .*two",
        ),
        (
            {"job": "distil", "model": "./plain", "questions": JUDGED, "judge": {"model": "./nowhere"}},
            "judge.model: './nowhere' .*",
        ),
        (
            {**CURATE, "domains": {"classify": {"model": "./nowhere", "classes": "msc"}}},
            "domains.classify.model: './nowhere' .*",
        ),
        ({**CURATE, "select": {"by": "random", "size": 9}}, "9 rows are asked for, and traces.jsonl has 4"),
        (
            {**CURATE, "domains": "subject", "select": {"by": "s1", "size": 2, "weights": {"geometry": 1}}},
            "there is no domain 'geometry' in traces.jsonl: it has algebra",
        ),
        (
            {**CURATE, "domains": {"classify": {"model": "./plain", "classes": ["x", "y", "x"]}}},
            "'x' is given twice: give each class a name of its own",
        ),
    ],
)
def test_data_that_is_not_as_it_is_said_to_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: dict[str, Any], expected: str
) -> None:
    literal = expected if ".*" in expected else re.escape(expected)
    assert re.search(literal, said(folder, monkeypatch, {"step": step}))
