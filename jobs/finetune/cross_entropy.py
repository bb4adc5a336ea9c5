"""The cross-entropies of tokens against a vocabulary, in chunks: the logits of all of them never exist at once.

torch has it from 2.13 on, as ``linear_cross_entropy``; with an older one, what is below gives the same. Both compute a
chunk's logits a second time for its gradient.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

TORCHS: Any = getattr(functional, "linear_cross_entropy", None)
"""torch's own; None where it has none."""


def cross_entropies(
    hidden: Tensor,
    vocabulary: Tensor,
    labels: Tensor,
    *,
    at_once: int | None,
    reduction: Literal["none", "sum"] = "none",
) -> Tensor:
    """In nats, of `labels` [tokens] against ``hidden @ vocabulary.T``: [tokens], or their sum.

    `hidden` is [tokens, width], `vocabulary` [words, width]; `at_once` is the tokens of a chunk, None for all.
    """
    if TORCHS is not None:
        options = None
        if at_once is not None:
            options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=at_once, chunking_method=None)
        losses: Tensor = TORCHS(hidden, vocabulary, labels, reduction=reduction, options=options)
        return losses
    if at_once is None:
        return functional.cross_entropy(hidden @ vocabulary.T, labels, reduction=reduction)
    losses = _InChunks.apply(hidden, vocabulary, labels, at_once)
    return losses if reduction == "none" else losses.sum()


class _InChunks(torch.autograd.Function):
    """Per token, at least float32 whatever the logits are."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, vocabulary: Tensor, labels: Tensor, at_once: int) -> Tensor:
        context.save_for_backward(hidden, vocabulary, labels)
        context.at_once = at_once
        losses = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        for first in range(0, len(hidden), at_once):
            rows = slice(first, first + at_once)
            logits = _logits(hidden[rows], vocabulary)
            losses[rows] = logits.logsumexp(-1) - logits.gather(-1, labels[rows, None])[:, 0]
        return losses

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, vocabulary, labels = context.saved_tensors
        of_hidden = torch.empty_like(hidden) if context.needs_input_grad[0] else None
        of_vocabulary = torch.zeros_like(vocabulary) if context.needs_input_grad[1] else None
        for first in range(0, len(hidden), context.at_once):
            rows = slice(first, first + context.at_once)
            gradient = _logits(hidden[rows], vocabulary).softmax(-1)
            gradient.scatter_add_(-1, labels[rows, None], gradient.new_full((len(gradient), 1), -1.0))
            gradient = gradient.mul_(gradients[0][rows, None]).to(hidden.dtype)
            if of_hidden is not None:
                torch.mm(gradient, vocabulary, out=of_hidden[rows])
            if of_vocabulary is not None:
                of_vocabulary.addmm_(gradient.T, hidden[rows])
        return of_hidden, of_vocabulary, None, None


def _logits(hidden: Tensor, vocabulary: Tensor) -> Tensor:
    logits = hidden @ vocabulary.T
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
