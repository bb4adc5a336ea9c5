"""Keeps vLLM from emitting ids that the tokenizer does not know. Loaded by vLLM's own worker processes."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor


class VocabularyMask(LogitsProcessor):
    """A batch-level logits processor: models with padded embeddings have more logits than there are tokens."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self._vocabulary: int = vllm_config.additional_config["vocabulary"]

    def is_argmax_invariant(self) -> bool:
        """It is not: a masked id may have the largest logit."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """It is the same for every request."""

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Masks `logits`, [batch, ids], in place."""
        logits[:, self._vocabulary :] = float("-inf")
        return logits
