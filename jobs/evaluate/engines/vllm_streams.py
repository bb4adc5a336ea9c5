"""Random streams by position for vLLM's model runner V1. Loaded by vLLM's own worker processes.

Model runner V2 makes its noise of a request's seed and a token's position, so whoever continues a piece with the same
seed draws what would have been drawn. V1 has a generator per request, whose state depends on how many tokens the
request has had: a continued piece would draw from another stream. So on V1 a request asks for greedy decoding and says
its stream in ``extra_args``; what is drawn from it is left as the only token that greedy decoding can choose.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from jobs.evaluate.engines.protocol import Request
from jobs.evaluate.engines.sampling import sample, uniform

STREAM = "stream"
"""The key in ``extra_args``."""


def stream_of(request: Request) -> dict[str, Any]:
    """What :class:`Streams` reads: the ``extra_args`` of a request."""
    return {STREAM: [request.seed, request.position, request.sampling.temperature, request.sampling.top_p]}


class _Drawing(NamedTuple):
    seed: int
    position: int
    """Of the request's first token in the stream."""
    temperature: float
    top_p: float
    decoded: list[int]
    """The request's tokens so far: vLLM's own list, which grows."""


class Streams(LogitsProcessor):
    """Chooses the next token of each request that has a stream."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self._rows: dict[int, _Drawing] = {}

    def is_argmax_invariant(self) -> bool:
        """It is not: it decides."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Requests joined the batch, left it, or changed places in it."""
        process_dict_updates(self._rows, batch_update, _drawing)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leaves the token drawn, in each row of `logits`, [batch, ids], that has a stream. In place."""
        if not self._rows:
            return logits
        drawing = list(self._rows.values())
        columns = (
            [each.temperature for each in drawing],
            [each.top_p for each in drawing],
            [uniform(each.seed, each.position + len(each.decoded)) for each in drawing],
        )
        rows = torch.tensor(list(self._rows), device=logits.device)
        chosen = sample(logits[rows], *(torch.tensor(column, device=logits.device) for column in columns))
        logits[rows] = -torch.inf
        logits[rows, chosen] = 0
        return logits


def _drawing(parameters: Any, prompt: list[int] | None, decoded: list[int]) -> _Drawing | None:
    """The stream that a request asks for, if any."""
    stream = (parameters.extra_args or {}).get(STREAM)
    if stream is None:
        return None
    seed, position, temperature, top_p = stream
    return _Drawing(seed, position, temperature, top_p, decoded)
