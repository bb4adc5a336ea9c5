"""What a checkpoint's own files say about decoding with it, and what an engine is told."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from ray import cloudpickle

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.model import ResolvedModel, resolve
from jobs.evaluate.engines.protocol import EngineSpec
from jobs.evaluate.run import prepare
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.conftest import ROOT
from tests.evaluate import tiny


def written(folder: Path, **changes: Any) -> Path:
    """A tiny model whose config.json, and, for ``eos_token_id``, generation_config.json, have `changes`."""
    tiny.save(folder)
    change(folder / "config.json", changes)
    if "eos_token_id" in changes:
        change(folder / "generation_config.json", changes)
    return folder


def change(file: Path, changes: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def wrapped(folder: Path, whole: str | None, text: str | None) -> Path:
    """The same as the text model of a multimodal checkpoint, each of which may say a dtype."""
    tiny.save(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    text_config = {**config, "model_type": "gemma3_text", **({"dtype": text} if text else {})}
    wrapper = {"model_type": "gemma3", "text_config": text_config, **({"dtype": whole} if whole else {})}
    (folder / "config.json").write_text(json.dumps(wrapper))
    return folder


def resolved(folder: Path, **fields: Any) -> ResolvedModel:
    config = EvaluateConfig.model_validate_json(json.dumps({"model": str(folder), "tasks": ["letters"], **fields}))
    return resolve(config, StepContext("experiment", "sweep", "x", folder, folder / "traces"))


@pytest.mark.parametrize(
    ("whole", "text", "found"),
    [
        ("bfloat16", None, "bfloat16"),
        (None, "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "bfloat16"),
        ("float16", None, "float16"),
    ],
)
def test_a_multimodal_checkpoint_may_say_its_dtype_in_either_place(
    tmp_path: Path, whole: str | None, text: str | None, found: str
) -> None:
    folder = wrapped(tmp_path, whole, text)
    assert resolved(folder).dtype == found
    assert resolved(folder, dtype="float32").dtype == "float32"


@pytest.mark.parametrize("ends", [262, [257, 99_999], -1])
def test_an_end_of_turn_that_the_tokenizer_does_not_have_is_said(tmp_path: Path, ends: int | list[int]) -> None:
    with pytest.raises(StepError, match=r"^model: [^\n]* ends its turn with id (262|99999|-1) [^\n]* of 262: set eos"):
        resolved(written(tmp_path, eos_token_id=ends))


def test_a_long_context_is_not_used_unless_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, max_position_embeddings=131_072)
    assert resolved(folder).context_length == 32_768
    assert "context_length: auto is 32,768 of the model's 131,072 tokens: give a number" in capsys.readouterr().out
    assert resolved(folder, context_length=131_072).context_length == 131_072
    assert capsys.readouterr().out == ""


def test_a_context_that_the_model_has_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolved(written(tmp_path, max_position_embeddings=32_768)).context_length == 32_768
    assert capsys.readouterr().out == ""


def test_an_engine_is_told_how_many_requests_there_will_be(tmp_path: Path) -> None:
    model, questions = tiny.save(tmp_path / "model"), tmp_path / "questions.jsonl"
    questions.write_text('{"id": "one", "question": "What is 1+1?", "answer": "2"}\n')
    fields = {
        "model": str(model),
        "tasks": [{"name": "sums", "path": str(questions)}],
        "extensions": {"strings": ["Wait", ""], "counts": [1, 2]},
        "max_answer_tokens": 12,
    }

    def told(**resources: int) -> EngineSpec:
        config = EvaluateConfig.model_validate_json(json.dumps(fields | {"resources": resources}))
        context = StepContext("experiment", "sweep", "x", tmp_path, tmp_path / "traces")
        engine: EngineSpec = cast("partial[Any]", prepare(config, context).replica.start).args[0]
        return engine

    assert (told(in_flight=10).in_flight, told(in_flight=10).seats) == (10, 30), "two strings, and a fork"
    assert (told().max_num_seqs, told().max_num_batched_tokens) == (None, None)
    given = told(max_num_seqs=7, max_num_batched_tokens=900)
    assert (given.max_num_seqs, given.max_num_batched_tokens) == (7, 900)


def test_a_replica_is_handed_nothing_that_imports_what_it_does_not_use(tmp_path: Path) -> None:
    model, questions = tiny.save(tmp_path / "model"), tmp_path / "questions.jsonl"
    questions.write_text('{"id": "one", "question": "What is 1+1?", "answer": "2"}\n')
    fields = {"model": str(model), "tasks": [{"name": "sums", "path": str(questions)}], "budgets": [4]}
    context = StepContext("experiment", "sweep", "x", tmp_path, tmp_path / "traces")
    spec = prepare(EvaluateConfig.model_validate_json(json.dumps(fields)), context).replica
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); print(*sys.modules)"
    handed = subprocess.run(
        [sys.executable, "-c", code], input=cloudpickle.dumps(spec), capture_output=True, cwd=ROOT, check=True
    )
    imported = set(handed.stdout.decode().split())
    assert "jobs.evaluate.decode.replica" in imported
    assert imported.isdisjoint({"matplotlib", "mlflow", "openai", "pandas", "plotly", "scipy", "torch", "transformers"})
