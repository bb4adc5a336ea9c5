"""The transformers engine on tiny random models of the architectures in docs/models.md: decoded, or refused in a line.

What it decodes is what the model says by itself, each token from the whole of what came before, without any cache.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.evaluate.engines.protocol import EngineError, EngineSpec, Request, start
from tests.evaluate.scripted_server import whole as stream
from tests.faults.test_model_architectures import ARCHITECTURES, DENSE

TOKENS = 6
PROMPT = tuple(range(2, 20))
OTHER_LAYERS = {
    "Qwen3NextForCausalLM": "linear_attention",
    "GptOssForCausalLM": "sliding_attention",
    "Gemma4ForCausalLM": "sliding_attention",
    "Olmo3ForCausalLM": "sliding_attention",
    "NemotronHForCausalLM": "linear_attention",
}
"""Of which the engine has no cache."""


def saved(architecture: str, folder: Path) -> Path:
    settings = {name: value for name, value in (DENSE | ARCHITECTURES[architecture]).items() if value is not None}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings | {"initializer_range": 0.2}))
    model.float().save_pretrained(folder)
    return folder


def decoded(folder: Path) -> list[int]:
    spec = EngineSpec("transformers", str(folder), None, "float32", 64, 512, gpus=0, cpus=1)

    async def think() -> list[int]:
        engine = await start(spec)
        try:
            first, _ = await stream(engine, Request(PROMPT, TOKENS, ()))
            again = Request((*PROMPT, *first[:3]), TOKENS - 3, ())
            assert (await stream(engine, replace(again)))[0] == first[3:], "a fork takes what is cached"
            return first
        finally:
            await engine.close()

    return asyncio.run(think())


@pytest.mark.seconds
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in OTHER_LAYERS])
def test_what_is_decoded_is_what_the_model_says_by_itself(architecture: str, tmp_path: Path) -> None:
    folder = saved(architecture, tmp_path)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected: list[int] = []
    with torch.no_grad():
        while len(expected) < TOKENS:
            logits = plain(input_ids=torch.tensor([[*PROMPT, *expected]]), use_cache=False).logits
            expected.append(int(logits[0, -1].argmax()))
    assert decoded(folder) == expected


@pytest.mark.seconds
@pytest.mark.parametrize("architecture", OTHER_LAYERS)
def test_layers_that_it_has_no_cache_for_are_named(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=OTHER_LAYERS[architecture]) as caught:
        decoded(saved(architecture, tmp_path))
    assert "use engine: vllm" in str(caught.value)
    assert "\n" not in str(caught.value)
