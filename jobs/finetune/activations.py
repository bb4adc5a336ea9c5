"""Activation checkpointing: what of a layer's forward pass is kept for its gradient, and what is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

_aten = torch.ops.aten
_KEPT = frozenset(
    {
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
    }
)
"""What takes nearly all the time of a layer: matrix products and attention. The rest is computed again in passing."""


def checkpoint_activations(model: Any, mode: Literal["off", "selective", "full"]) -> None:
    """Makes every decoder layer of `model`, as transformers made it, keep only what `mode` says."""
    if mode == "off":
        return
    arguments: dict[str, Any] = {"use_reentrant": False}
    if mode == "selective":
        arguments["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=arguments)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Mapping[str, Any]) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
