"""Text alone from a multimodal checkpoint: a tiny random Gemma 3 with its vision tower, on transformers.

vLLM's classes of such models import torchvision, which the list for CPUs has not.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GenerationConfig

from jobs.evaluate.engines.protocol import Request, start
from tests.evaluate import tiny
from tests.evaluate.engines.test_engines import spec
from tests.evaluate.scripted_server import whole as stream

TOKENS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its configuration keeps vocabulary, positions and shapes under ``text_config``; there is no processor."""
    path = tmp_path_factory.mktemp("gemma3")
    fast = tiny.tokenizer()
    text = {
        "vocab_size": len(fast) + 3,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 256,
        "layer_types": ["full_attention", "full_attention"],
        "initializer_range": 0.3,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 28,
        "patch_size": 14,
    }
    torch.manual_seed(0)
    settings = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
    model = Gemma3ForConditionalGeneration(settings)
    model.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id)
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


def test_its_text_is_decoded_as_the_whole_model_would(folder: Path) -> None:
    prompt = tuple(tiny.tokenizer().encode("How many?<think>"))

    async def decoded() -> list[int]:
        engine = await start(replace(spec("transformers", folder), context_length=128))
        try:
            return (await stream(engine, Request(prompt, TOKENS, ())))[0]
        finally:
            await engine.close()

    plain = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    expected: list[int] = []
    with torch.no_grad():
        while len(expected) < TOKENS:
            logits = plain(input_ids=torch.tensor([[*prompt, *expected]])).logits[0, -1, : len(tiny.tokenizer())]
            expected.append(int(logits.argmax()))
    assert asyncio.run(decoded()) == expected
