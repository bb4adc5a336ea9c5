"""The model that is trained, and its loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear_cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, Qwen2Config

from jobs.finetune.attention import stay_within_documents
from jobs.finetune.batches import IGNORED, Batch
from jobs.finetune.config import HEAD_SIZE, RandomModel
from jobs.finetune.tokenizer import byte_tokenizer
from orchestrator.step import StepError

_ROPE_THETA = 1000.0
"""Rotations suited to contexts of hundreds of tokens: copying is learned much sooner than with 10,000 or more."""

_INITIAL_SCALE = 0.7
"""Standard deviation of the random weights, times the square root of the width. The customary 0.02 at any width is
far too little for a narrow model: at 128 it needs twice the optimizer steps to the same loss."""


class CausalLoss(nn.Module):
    """A causal language model that returns its loss, so that logits never leave the sharded module.

    Only the positions that are learned meet the vocabulary, and in chunks.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model
        """As transformers makes it: ``model.model`` gives the hidden states, ``model.lm_head`` the logits."""
        stay_within_documents(model)

    def forward(self, batch: Batch) -> Tensor:
        """The sum of the cross-entropies, in nats, of the batch's learned tokens: a scalar in float32."""
        hidden = self.model.model(**batch.inputs, use_cache=False).last_hidden_state
        learned = batch.labels != IGNORED
        loss = linear_cross_entropy(hidden[learned], self.model.lm_head.weight, batch.labels[learned], reduction="sum")
        return loss.float()


def load_tokenizer(source: RandomModel | str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises StepError when it cannot be loaded."""
    if isinstance(source, RandomModel):
        return byte_tokenizer(source.context)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise StepError(f"model: the tokenizer of {source!r} cannot be loaded ({_first_line(error)})") from error
    return tokenizer


def build_model(source: RandomModel | str, tokenizer: PreTrainedTokenizerBase, seed: int) -> nn.Module:
    """A model with float32 weights on the CPU, random ones drawn from `seed`.

    Raises StepError when it cannot be loaded.
    """
    if isinstance(source, RandomModel):
        torch.manual_seed(seed)
        model: nn.Module = AutoModelForCausalLM.from_config(_random_config(source, tokenizer))
        return model
    try:
        config = AutoConfig.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise StepError(f"model: {source!r} cannot be loaded ({_first_line(error)})") from error
    return model


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers that are sharded one by one. Raises StepError for an architecture that has none where others do."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise StepError(f"model: {type(model).__name__} has no decoder layers: give a decoder-only language model")
    return layers


def _random_config(source: RandomModel, tokenizer: PreTrainedTokenizerBase) -> Qwen2Config:
    heads = source.hidden_size // HEAD_SIZE
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=source.hidden_size,
        intermediate_size=2 * source.hidden_size,
        num_hidden_layers=source.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=source.context,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        tie_word_embeddings=True,
        initializer_range=_INITIAL_SCALE / source.hidden_size**0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
