"""Tiny random multimodal checkpoints: a language model with a vision tower, as transformers' wrappers save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from tests.evaluate import tiny

TEXT: dict[str, Any] = {
    "vocab_size": len(tiny.tokenizer()) + 3,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
"""Of the language model within."""
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
}
WHOLE = ["full_attention", "full_attention"]
WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "model_type": "gemma3",
        "text_config": TEXT | {"model_type": "gemma3_text", "layer_types": WHOLE},
        "vision_config": VISION | {"model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 1,
    },
    "mistral3": {
        "model_type": "mistral3",
        "text_config": TEXT | {"model_type": "mistral", "sliding_window": None, "tie_word_embeddings": False},
        "vision_config": VISION | {"model_type": "pixtral", "head_dim": 32},
        "tie_word_embeddings": False,
    },
    "ministral3": {
        "model_type": "mistral3",
        "text_config": TEXT
        | {
            "model_type": "ministral3",
            "sliding_window": None,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 16.0,
                "original_max_position_embeddings": 16,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
        "vision_config": VISION | {"model_type": "pixtral", "head_dim": 32},
        "tie_word_embeddings": False,
    },
    "gemma4": {
        "model_type": "gemma4",
        "text_config": TEXT
        | {
            "model_type": "gemma4_text",
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 128,
            "hidden_size_per_layer_input": 32,
            "vocab_size_per_layer_input": TEXT["vocab_size"],
        },
        "vision_config": VISION | {"model_type": "gemma4_vision", "num_key_value_heads": 1, "head_dim": 32},
        "audio_config": None,
    },
}

POST_NORMS = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
"""Of Gemma's layers. Its head is its embedding, so where layers add little, the likeliest token is the last one."""


def save(wrapper: str, folder: Path) -> Path:
    """Writes the checkpoint, without a processor; its configuration keeps what is of text under ``text_config``."""
    fast = tiny.tokenizer()
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**WRAPPERS[wrapper])).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if wrapper.startswith("gemma") and name.endswith(POST_NORMS):
                weight.fill_(20)
    model.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def says(folder: Path, prompt: tuple[int, ...], count: int) -> list[int]:
    """What the whole model says greedily of the tokenizer's ids, each from all before it, without any cache."""
    plain: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    said: list[int] = []
    with torch.no_grad():
        while len(said) < count:
            logits = plain(input_ids=torch.tensor([[*prompt, *said]]), use_cache=False).logits[0, -1]
            said.append(int(logits[: len(tiny.tokenizer())].argmax()))
    return said
