"""Random streams by position for vLLM's model runner V1. Loaded by vLLM's own worker processes.

Model runner V2 makes its noise of a request's seed and a token's position, so whoever continues a piece with the same
seed draws what would have been drawn. V1 has a generator per request, whose state depends on how many tokens the
request has had: a continued piece would draw from another stream. So on V1 a request asks for greedy decoding and says
its stream and its sampling in ``extra_args``; what is drawn from it is left as the only token that greedy decoding can
choose. Penalties are ours too: vLLM's count what the request wrote, and a trace is written by several.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from jobs.evaluate.engines.protocol import Request, Sampling
from jobs.evaluate.engines.sampling import Penalties, draw, uniform

STREAM = "stream"
"""The key in ``extra_args``."""


def stream_of(request: Request) -> dict[str, Any]:
    """What :class:`Streams` reads: the ``extra_args`` of a request."""
    return {STREAM: [request.seed, request.position, request.given, asdict(request.sampling)]}


@dataclass
class _Drawing:
    request: Request
    decoded: list[int]
    """The request's tokens so far: vLLM's own list, which grows."""
    penalties: Penalties | None
    counted: int = 0
    """Tokens of it that the penalties know."""

    @property
    def uniform(self) -> float:
        return uniform(self.request.seed, self.request.position + len(self.decoded))

    def penalize(self, logits: torch.Tensor) -> None:
        """Changes the row `logits` in place."""
        if self.penalties is not None:
            self.penalties.count(self.decoded[self.counted :])
            self.counted = len(self.decoded)
            self.penalties.apply(logits)


class Streams(LogitsProcessor):
    """Chooses the next token of each request that has a stream."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self._rows: dict[int, _Drawing] = {}
        self._vocabulary: int = vllm_config.additional_config["vocabulary"]
        self._device = device

    def is_argmax_invariant(self) -> bool:
        """It is not: it decides."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Requests joined the batch, left it, or changed places in it."""
        process_dict_updates(self._rows, batch_update, self._drawing)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leaves the token drawn, in each row of `logits`, [batch, ids], that has a stream. In place."""
        if not self._rows:
            return logits
        for row, drawing in self._rows.items():
            drawing.penalize(logits[row])
        drawn = {row: each for row, each in self._rows.items() if each.request.sampling.temperature > 0}
        if drawn:
            samplings = [each.request.sampling for each in drawn.values()]
            rows = torch.tensor(list(drawn), device=logits.device)
            chosen = draw(logits[rows], samplings, [each.uniform for each in drawn.values()])
            logits[rows] = -torch.inf
            logits[rows, chosen] = 0
        return logits

    def _drawing(self, parameters: Any, prompt: list[int] | None, decoded: list[int]) -> _Drawing | None:
        """The stream that a request asks for, if any."""
        stream = (parameters.extra_args or {}).get(STREAM)
        if stream is None:
            return None
        seed, position, given, sampling = stream
        request = Request(
            tuple(prompt or ()), 0, (), sampling=Sampling(**sampling), given=given, seed=seed, position=position
        )
        penalties = Penalties(request, self._vocabulary, self._device) if request.sampling.penalizes else None
        return _Drawing(request, decoded, penalties)
