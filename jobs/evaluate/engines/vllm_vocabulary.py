"""Keeps vLLM from emitting ids that the tokenizer does not know. Loaded by vLLM's own worker processes.

Models with padded embeddings have more logits than there are tokens. vLLM has two model runners, V2 wherever Triton is
and V1 elsewhere, as in the CPU build, and each takes logits processors of its own interface.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor as LogitsProcessorV1
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor


class VocabularyMask(LogitsProcessor):
    """For model runner V2."""

    def __init__(self, vllm_config: Any, req_states: Any):
        self._vocabulary: int = vllm_config.additional_config["vocabulary"]

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Masks `logits`, [rows, ids], in place."""
        return mask(logits, self._vocabulary)


class VocabularyMaskV1(LogitsProcessorV1):
    """For model runner V1."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self._vocabulary: int = vllm_config.additional_config["vocabulary"]

    def is_argmax_invariant(self) -> bool:
        """It is not: a masked id may have the largest logit."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """It is the same for every request."""

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Masks `logits`, [batch, ids], in place."""
        return mask(logits, self._vocabulary)


def mask(logits: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """`logits`, [rows, ids], in which no id from `vocabulary` on can be drawn."""
    logits[:, vocabulary:] = -torch.inf
    return logits
