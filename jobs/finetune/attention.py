"""Attention that stays within each document of a packed row.

transformers reads the boundaries off the positions, which start again at 0, but makes a mask of them: ``[seq, seq]``,
a gigabyte at 32,768 tokens, and with a mask no fast kernel applies. Here each document is attended to by itself, so the
boundaries are exact by construction, the causal kernels apply, and no work is done across documents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "sdpa_documents"

AttentionInterface.register(NAME, lambda *args, **kwargs: _attend(*args, **kwargs))


def stay_within_documents(model: Any) -> None:
    """Makes a transformers model heed the ``documents`` that a packed batch comes with (``Batch.inputs``).

    A model that also attends in sliding windows keeps transformers' masks, which are as exact.
    """
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"]
    if set(kinds) == {"full_attention"}:
        model.set_attn_implementation(NAME)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention, ``[batch, heads, seq, head]`` to ``[batch, seq, heads, head]``.

    `documents` are the lengths of the documents of the one row that a packed batch has; None: rows are documents.
    """
    if documents is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    parts = zip(*(tensor.split(documents, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *part, None, **kwargs)[0] for part in parts], dim=1), None
