"""vLLM starts on a random, tiny model of each architecture that docs/models.md says it starts on, and decodes.

Half a minute each on CPUs: weights are vLLM's dummies, so nothing of a model is there but its class and its shapes. How
much its cache holds is compared with the bytes that layers which keep keys and values take.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate.engines.protocol import EngineSpec, Request
from jobs.evaluate.engines.vllm import start
from tests.conftest import ROOT

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
    # The CPU build computes gated delta nets in bfloat16 alone, in heads of their real size.
    "Qwen3NextForCausalLM": {
        "model_type": "qwen3_next",
        "layer_types": ["linear_attention", "full_attention"],
        "dtype": "bfloat16",
        "linear_num_key_heads": 1,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "num_experts": 4,
        "shared_expert_intermediate_size": 64,
        **MOE,
    },
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
    # The CPU build's kernel of latent attention has one size: 512 + 64.
    "DeepseekV3ForCausalLM": {
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "head_dim": None,
        "q_lora_rank": 32,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 64,
        "v_head_dim": 64,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        **MOE,
    },
    # The CPU build routes ungrouped experts by softmax alone; the model itself has a sigmoid.
    "MiniMaxM2ForCausalLM": {
        "model_type": "minimax_m2",
        "num_local_experts": 4,
        "rotary_dim": 16,
        "use_qk_norm": True,
        "scoring_func": "softmax",
        **MOE,
    },
    "Olmo3ForCausalLM": {
        "model_type": "olmo3",
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 64,
    },
    "SmolLM3ForCausalLM": {
        "model_type": "smollm3",
        "layer_types": ["full_attention", "full_attention"],
        "no_rope_layers": [1, 0],
    },
    "HunYuanMoEV1ForCausalLM": {
        "model_type": "hunyuan_v1_moe",
        "num_experts": 4,
        "moe_topk": 2,
        "num_shared_expert": 1,
        "use_qk_norm": True,
        "moe_intermediate_size": 64,
    },
    "NemotronHForCausalLM": {
        "model_type": "nemotron_h",
        "num_hidden_layers": 4,
        "hybrid_override_pattern": "M*-M",
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "ssm_state_size": 16,
        "n_groups": 1,
        "conv_kernel": 4,
        "chunk_size": 32,
        "expand": 1,
        "mlp_hidden_act": "relu2",
        "attention_head_dim": 32,
    },
    "SeedOssForCausalLM": {"model_type": "seed_oss"},
    "MistralForCausalLM": {"model_type": "mistral"},
    "LlamaForCausalLM": {"model_type": "llama"},
}

CACHE_GB = 1
OF_A_LAYER = 2 * DENSE["num_key_value_heads"] * DENSE["head_dim"] * 4
"""Bytes of a token's keys and values in float32."""
KEEPING = {"NemotronHForCausalLM": 1, "LlamaForCausalLM": 2, "SmolLM3ForCausalLM": 2}
"""Layers that keep keys and values, all others keeping a state or nothing."""


def test_the_table_says_what_is_started_here() -> None:
    rows = [line for line in (ROOT / "docs" / "models.md").read_text().splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"\w+ForCausalLM", row)}
    assert named - {"Qwen2ForCausalLM"} == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.timeout(240)
def test_a_tiny_model_starts_and_decodes(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", str(CACHE_GB))
    config = DENSE | {"architectures": [architecture]} | ARCHITECTURES[architecture]
    config = {name: value for name, value in config.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = EngineSpec("vllm", str(tmp_path), None, config["dtype"], 256, 512, gpus=0, cpus=1, in_flight=4, seats=8)

    async def think() -> int:
        engine = await start(spec, load_format="dummy")
        decoded = 0
        try:
            for length in (40, 44):  # the second begins as the first does
                async with aclosing(engine.stream(Request(tuple(range(2, length)), 8, ()))) as stream:
                    async for chunk in stream:
                        decoded += len(chunk.tokens)
            if layers := KEEPING.get(architecture):
                most = CACHE_GB * 2**30 / (OF_A_LAYER * layers)
                assert 0.75 * most <= (engine.cache_tokens or 0) <= most, "admission goes by what is kept"
        finally:
            await engine.close()
        return decoded

    assert asyncio.run(think()) == 16
