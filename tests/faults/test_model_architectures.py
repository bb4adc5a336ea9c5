"""vLLM starts on a random, tiny model of each architecture that docs/models.md says it starts on, and decodes.

Half a minute each on CPUs: weights are vLLM's dummies, so nothing of a model is there but its class and its shapes.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate.engines.protocol import EngineSpec, Request
from jobs.evaluate.engines.vllm import start

DENSE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "eos_token_id": 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "dtype": "float32",
}
MOE: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen3ForCausalLM": {"model_type": "qwen3"},
    "Qwen3MoeForCausalLM": {"model_type": "qwen3_moe", "num_experts": 4, **MOE},
    "GptOssForCausalLM": {
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"],
        **MOE,
    },
    "Glm4MoeForCausalLM": {
        "model_type": "glm4_moe",
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        **MOE,
    },
    "Gemma4ForCausalLM": {
        "model_type": "gemma4_text",
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 128,
        "hidden_size_per_layer_input": 32,
        "vocab_size_per_layer_input": 512,
    },
    "MistralForCausalLM": {"model_type": "mistral"},
    "LlamaForCausalLM": {"model_type": "llama"},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.timeout(240)
def test_a_tiny_model_starts_and_decodes(architecture: str, tmp_path: Path) -> None:
    config = DENSE | {"architectures": [architecture]} | ARCHITECTURES[architecture]
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = EngineSpec("vllm", str(tmp_path), None, "float32", 256, 512, gpus=0, cpus=1, in_flight=4, seats=8)

    async def think() -> int:
        engine = await start(spec, load_format="dummy")
        decoded = 0
        try:
            async with aclosing(engine.stream(Request(tuple(range(2, 40)), 8, ()))) as stream:
                async for chunk in stream:
                    decoded += len(chunk.tokens)
        finally:
            await engine.close()
        return decoded

    assert asyncio.run(think()) == 8
