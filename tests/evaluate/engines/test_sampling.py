"""How tokens are drawn: against transformers' own processors, on the engine, and as an experiment file says it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.protocol import Sampling, start
from jobs.evaluate.engines.recommended import NothingRecommended, recommended
from jobs.evaluate.engines.sampling import draw
from tests.evaluate import tiny
from tests.evaluate.engines.penalties import check_draws, check_penalties
from tests.evaluate.engines.test_engines import CONTEXT, spec

DRAWS = 20_000


@pytest.mark.parametrize(
    ("sampling", "processors"),
    [
        (Sampling(0.7, top_k=3), [TopKLogitsWarper(3)]),
        (Sampling(0.7, top_k=100), []),
        (Sampling(0.7, min_p=0.2), [MinPLogitsWarper(0.2)]),
        (Sampling(0.7, 0.8, top_k=4), [TopKLogitsWarper(4), TopPLogitsWarper(0.8)]),
        (Sampling(0.7, 0.6, min_p=0.1), [MinPLogitsWarper(0.1), TopPLogitsWarper(0.6)]),
    ],
)
def test_cuts_leave_the_distribution_that_transformers_leaves(sampling: Sampling, processors: list[Any]) -> None:
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(3)) * 1.5
    uniforms = ((torch.arange(DRAWS) + 0.5) / DRAWS).tolist()
    drawn = draw(logits.expand(DRAWS, -1), [sampling] * DRAWS, uniforms)
    left = LogitsProcessorList([TemperatureLogitsWarper(0.7), *processors])(
        torch.zeros(1, 1, dtype=torch.int64), logits
    )
    assert torch.allclose(torch.bincount(drawn, minlength=8) / DRAWS, left.softmax(-1)[0], atol=2e-4)


def test_a_row_draws_the_same_whatever_shares_its_batch() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    samplings = [Sampling(1.0, 0.9), Sampling(1.0, 0.9, top_k=5), Sampling(0.5, min_p=0.3)]
    for at in range(200):
        uniforms = [at / 200, at / 200, at / 200]
        together = draw(logits, samplings, uniforms).tolist()
        alone = [int(draw(logits[row : row + 1], [samplings[row]], uniforms[:1])[0]) for row in range(3)]
        assert together == alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"), CONTEXT)


@pytest.mark.seconds
def test_the_transformers_engine_draws_from_the_penalized_and_cut_distribution(folder: Path) -> None:
    async def use() -> None:
        engine = await start(spec("transformers", folder))
        try:
            await check_penalties(engine, folder)
            await check_draws(engine, folder, 3000)
        finally:
            await engine.close()

    asyncio.run(use())


def test_what_is_left_at_its_default_is_no_part_of_a_traces_identity() -> None:
    assert Sampling(0.6, 0.9).identity == {"temperature": 0.6, "top_p": 0.9}, "as in stores of before"
    assert Sampling(0.6, top_k=20).identity == {"temperature": 0.6, "top_p": 1.0, "top_k": 20}


@pytest.mark.parametrize(
    ("said", "sampling"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}, Sampling(0.6, 0.95, 20)),
        ({"do_sample": True}, Sampling(1.0)),
        ({"temperature": 0.7, "repetition_penalty": 1.05}, Sampling(0.7, repetition_penalty=1.05)),
        ({"do_sample": False, "temperature": 0.6}, Sampling()),
        ({"do_sample": True, "min_p": 0.05, "eos_token_id": 2}, Sampling(1.0, min_p=0.05)),
    ],
)
def test_what_a_checkpoint_recommends_is_what_its_file_says(said: dict[str, Any], sampling: Sampling) -> None:
    assert recommended(said) == sampling


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"eos_token_id": 2}, "says nothing about sampling"),
        ({"temperature": -1}, "temperature: -1, which makes no sense"),
    ],
)
def test_a_checkpoint_that_recommends_nothing_says_so(said: dict[str, Any], why: str) -> None:
    with pytest.raises(NothingRecommended, match=why):
        recommended(said)


SERVED = {"engine": "openai", "served_model": "m", "resources": {"server": {"url": "http://10.0.0.7:8000/v1"}}}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"top_k": -1, "temperature": 1}, "greater than or equal to 0"),
        ({"min_p": 1.5, "temperature": 1}, "less than or equal to 1"),
        ({"presence_penalty": 3}, "less than or equal to 2"),
        ({"repetition_penalty": 0}, "greater than 0"),
        ({"top_k": 20}, "top_k: 20 needs a temperature above 0"),
        ({"sampling": "recommended", "temperature": 0.6}, "temperature: is set by sampling: recommended too"),
        (SERVED | {"frequency_penalty": 1}, "frequency_penalty: engine openai does not have it for whole traces"),
    ],
)
def test_sampling_that_cannot_be_meant_is_one_line(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EvaluateConfig.model_validate_json(json.dumps({"model": "org/m", "tasks": ["letters"]} | fields))
    (error,) = caught.value.errors()
    assert why in error["msg"]
