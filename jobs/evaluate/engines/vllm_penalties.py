"""Presence and frequency penalties for vLLM's model runner V2, over the whole trace. Loaded by vLLM's worker processes.

vLLM's own count the tokens that a request writes. A trace is written by several requests, each of which has what was
written before in its prompt. So a request says in ``extra_args`` where its trace begins. What is taken from a row's
logits is worked out from the tokens that vLLM holds of it; it comes after vLLM's repetition penalty, as in vLLM itself.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

from jobs.evaluate.engines.protocol import Request

WRITTEN = "written"
"""The key in ``extra_args``."""


def penalties_of(request: Request) -> dict[str, Any] | None:
    """What :class:`WrittenPenalties` reads: the ``extra_args`` of a request; None where it has none of them."""
    sampling = request.sampling
    if not sampling.counts_written:
        return None
    begins = len(request.prompt) - len(request.written)
    return {WRITTEN: [begins, sampling.presence_penalty, sampling.frequency_penalty]}


class WrittenPenalties(LogitsProcessor):
    """Takes from each row what its trace has."""

    def __init__(self, vllm_config: Any, req_states: Any):
        self._tokens = req_states.all_token_ids
        self._vocabulary: int = req_states.vocab_size
        self._asked: dict[int, tuple[int, float, float]] = {}
        """By slot: where its trace begins, and what is taken."""

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """A request comes into a slot, which may have been another's."""
        asked = (sampling_params.extra_args or {}).get(WRITTEN)
        self._asked.pop(req_idx, None)
        if asked is not None:
            self._asked[req_idx] = tuple(asked)
        return asked is not None

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Changes `logits`, [rows, ids], in place."""
        slots = ctx.expanded_idx_mapping.tolist()
        rows = [row for row, slot in enumerate(slots) if slot in self._asked]
        if not rows:
            return logits
        begins, presence, frequency = (
            torch.tensor(column, device=logits.device)[:, None]
            for column in zip(*(self._asked[slots[row]] for row in rows), strict=True)
        )
        ends = ctx.pos[rows].to(logits.device)[:, None]
        longest = int(ends.max()) + 1
        tokens = self._tokens.gpu[ctx.expanded_idx_mapping[rows].to(torch.int64), :longest].to(torch.int64)
        places = torch.arange(longest, device=logits.device)
        of_trace = (places >= begins) & (places <= ends)
        nowhere = torch.full_like(tokens, logits.shape[1])
        counts = logits.new_zeros(len(rows), logits.shape[1] + 1, dtype=torch.float32)
        counts.scatter_add_(1, torch.where(of_trace, tokens, nowhere), torch.ones_like(tokens, dtype=torch.float32))
        counts = counts[:, :-1]
        logits[rows] = (logits[rows] - frequency * counts - presence * (counts > 0)).to(logits.dtype)
        return logits
