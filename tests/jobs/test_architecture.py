"""The shapes of a model's weights, from its config.json alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.architecture import UnknownArchitecture, find, from_config, keeps_states, needs_torchvision

SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("Qwen/Qwen2.5-3B", 3_085_938_688),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-14B", 14_770_033_664),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("Qwen/QwQ-32B", 32_763_876_352),
        ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8_030_261_248),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-32B", 32_762_123_264),
    ],
)
def test_known_models_have_their_published_number_of_parameters(
    name: str, parameters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert find(name).parameters == parameters


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "qwen2", "tie_word_embeddings": True},
        {"model_type": "qwen2", "tie_word_embeddings": False},
        {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
        {"model_type": "mistral", "tie_word_embeddings": False},
    ],
)
def test_the_shapes_are_those_that_transformers_makes(fields: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | fields))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    shapes = sorted(tuple(weight.shape) for weight in model.parameters())
    found = find(str(tmp_path))
    assert sorted([*found.root_shapes, *found.layer_shapes * found.layers]) == shapes
    assert found.parameters == sum(map(math.prod, shapes))


def test_a_name_of_the_hub_is_looked_up_in_its_cache_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--mine--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    with pytest.raises(UnknownArchitecture, match="not on this machine"):
        find("mine/tiny")
    (snapshot / "config.json").write_text(json.dumps(SMALL | {"model_type": "qwen2"}))
    assert find("mine/tiny").vocabulary == 300


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba', and known are llama, mistral, qwen2, qwen3"),
        ({"model_type": "qwen2"}, "has no hidden_size"),
        ({"model_type": "qwen2", **SMALL, "vocab_size": "many"}, "makes no sense"),
    ],
)
def test_what_cannot_be_understood_says_why(config: dict[str, object], why: str) -> None:
    with pytest.raises(UnknownArchitecture, match=why):
        from_config(config)


@pytest.mark.parametrize(
    ("said", "bits"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8}}}},
            8,
        ),
    ],
)
def test_a_quantised_checkpoint_is_as_large_as_its_file_says(said: dict[str, Any], bits: float) -> None:
    """The layers' matrices are; embedding, head, norms and biases are not."""
    config = {"model_type": "qwen2", **SMALL}
    plain, quantised = from_config(config), from_config(config | {"quantization_config": said})
    assert quantised.parameters == plain.parameters
    assert plain.stored(2) == 2 * plain.parameters
    layers = plain.multiplied - plain.head_parameters
    assert quantised.stored(2) == pytest.approx(2 * (plain.parameters - layers) + layers * bits / 8)


def test_another_quantisation_is_named() -> None:
    with pytest.raises(UnknownArchitecture, match="quantised by 'hqq', and known are fp8, awq"):
        from_config({"model_type": "qwen2", **SMALL, "quantization_config": {"quant_method": "hqq"}})


@pytest.mark.parametrize(
    ("config", "states"),
    [
        ({"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, False),
        ({"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"]}, True),
        ({"model_type": "qwen3_5", "text_config": {"layer_types": ["linear_attention"]}}, True),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*"}, True),
        ("no object", False),
    ],
)
def test_layers_that_keep_states_are_seen_in_the_config(config: Any, states: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert keeps_states(str(tmp_path)) is states


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        ({"model_type": "qwen3"}, False),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}, "vision_config": {}}, False),
        ({"model_type": "mistral3", "text_config": {"model_type": "ministral3"}, "vision_config": {}}, False),
        ({"model_type": "gemma4", "text_config": {"model_type": "gemma4_text"}, "audio_config": {}}, False),
        ({"model_type": "qwen3_vl", "text_config": {"model_type": "qwen3_vl_text"}, "vision_config": {}}, True),
        ({"model_type": "qwen3_5", "text_config": {"model_type": "qwen3_5_text"}, "vision_config": {}}, True),
        ({"model_type": "qwen3_5_text"}, True),
    ],
)
def test_what_vllm_imports_torchvision_for_is_seen_in_the_config(config: Any, needed: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert needs_torchvision(str(tmp_path)) is needed
