"""What an experiment says of a server, what of it identifies a sweep, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.run import prepare
from orchestrator.job.context import StepContext
from tests.evaluate import tiny

KEY = "sk-canary-41c7d2"


def test_traces_from_a_server_are_kept_by_what_it_serves(tmp_path: Path) -> None:
    context = StepContext("experiment", "sweep", "step", tmp_path / "step", tmp_path / "traces")
    model = tiny.save(tmp_path / "model")
    (tmp_path / "questions.jsonl").write_text(json.dumps({"id": "q", "question": "1+1?", "answer": "2"}))
    fields = {"model": str(model), "tasks": [{"name": "sums", "path": str(tmp_path / "questions.jsonl")}]}
    elsewhere = {"url": "http://10.0.0.8:8000/v1"}

    here, there, other, ours = (
        prepare(each, context).folder
        for each in (
            config(**fields),
            config(elsewhere, **fields),
            config(**fields, served_model="n"),
            config(**fields, engine="transformers", served_model=None, resources={}),
        )
    )
    assert here == there
    assert len({here, other, ours}) == 3


SWEEP: dict[str, Any] = {"model": "org/m", "tasks": ["letters"], "engine": "openai", "served_model": "m"}
SERVER = {"url": "http://10.0.0.7:8000/v1"}


def config(server: object = SERVER, **changes: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate_json(json.dumps(SWEEP | {"resources": {"server": server}} | changes))


def test_where_the_server_is_does_not_identify_a_sweep_and_what_it_serves_does() -> None:
    here, there = config(), config({"url": "https://models.example.com/v1", "key_variable": "MY_KEY", "requests": 8})
    other = config(served_model="n")
    plain = [each.model_dump_json(exclude={"resources"}) for each in (here, there, other)]
    assert plain[0] == plain[1] != plain[2]
    assert here.engine_name == "openai"
    assert here.demands() == [{"CPU": 1.0}]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"url": "10.0.0.7:8000"}, "url", "is not a server's address: give one like http://"),
        ({"url": "ftp://host/v1"}, "url", "is not a server's address"),
        ({"url": "http://host:99999/v1"}, "url", "is not a server's address"),
        ({"url": f"http://me:{KEY}@host/v1"}, "url", "has no credentials"),
        ({"url": f"http://host/v1?key={KEY}"}, "url", "has no credentials"),
        (SERVER | {"key_variable": KEY}, "key_variable", "is not the name of an environment variable"),
        (SERVER | {"requests": 0}, "requests", "greater than or equal to 1"),
        (SERVER | {"retries": -1}, "retries", "greater than or equal to 0"),
        (SERVER | {"deadline": 0}, "deadline", "greater than 0"),
        ({}, "url", "required"),
    ],
)
def test_a_server_that_cannot_be_meant_is_one_error_without_secrets(
    change: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        config(change)
    (error,) = caught.value.errors()
    assert error["loc"] == ("resources", "server", field)
    assert said in error["msg"]
    assert KEY not in error["msg"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": "vllm"}, "served_model: engine vllm has no server"),
        ({"engine": "auto", "served_model": None}, "resources.server: engine auto has no server"),
        ({"served_model": None}, "engine: openai needs served_model"),
        ({"resources": {}}, "engine: openai needs resources.server"),
        ({"dtype": "float32"}, "dtype: float32 is not for engine openai to choose"),
        ({"batch_invariant": True}, "batch_invariant: true is for vllm on GPUs, and this is openai"),
        ({"resources": {"server": SERVER, "gpus": 1}}, "resources.gpus: 1 would idle"),
    ],
)
def test_a_server_is_said_where_one_decodes(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**change)
    (error,) = caught.value.errors()
    assert said in error["msg"]
