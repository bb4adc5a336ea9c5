"""Random numbers that are a function of the stream and the position in it, and tokens drawn with them, for the engines
that draw themselves.

Nothing is carried from token to token, so a row draws the same tokens whatever shares its batch, and a piece that is
continued, on any replica, draws what it would have drawn undisturbed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import torch

from jobs.evaluate.engines.protocol import LIKELIEST, Belief, Request, Sampling


def uniform(seed: int, position: int) -> float:
    """The number of the stream `seed` at `position`, in [0, 1)."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32


class Penalties:
    """What the tokens of one request so far take from the logits of its next: see :class:`Sampling`."""

    def __init__(self, request: Request, vocabulary: int, device: torch.device):
        self._sampling = request.sampling
        self._counts = torch.zeros(vocabulary, device=device)
        self._given = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self._given[list(request.prompt[: request.given])] = True
        self.count(request.written)

    def count(self, tokens: Sequence[int]) -> None:
        """The trace goes on with `tokens`."""
        at = torch.tensor(tokens, dtype=torch.int64, device=self._counts.device)
        self._counts.index_add_(0, at, torch.ones_like(at, dtype=self._counts.dtype))

    def apply(self, logits: torch.Tensor) -> None:
        """Changes `logits`, [vocabulary or more], in place."""
        known, there = logits[: len(self._counts)], self._counts > 0
        by, sampling = self._sampling.repetition_penalty, self._sampling
        known.copy_(torch.where(there | self._given, torch.where(known > 0, known / by, known * by), known))
        known.sub_(sampling.frequency_penalty * self._counts + sampling.presence_penalty * there)


def beliefs(logprobs: torch.Tensor, chosen: torch.Tensor) -> list[Belief]:
    """How sure the model was of the token `chosen`, [batch], from its log-probabilities, [batch, vocabulary]."""
    likeliest = logprobs.topk(min(LIKELIEST, logprobs.shape[-1])).values
    shares = likeliest.exp()
    rest = (1 - shares.sum(-1)).clamp(min=0)
    entropy = torch.special.entr(shares).sum(-1) + torch.special.entr(rest)
    of_chosen = logprobs.gather(-1, chosen[:, None])[:, 0]
    return [Belief(*each) for each in torch.stack([of_chosen, -likeliest.mean(-1), entropy], dim=-1).tolist()]


def draw(logits: torch.Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> torch.Tensor:
    """The token that each row of `logits` draws with its sampling and its number: [batch]."""
    columns = (
        torch.tensor(column, device=logits.device)
        for column in (
            [each.temperature for each in samplings],
            [each.top_p for each in samplings],
            [each.top_k for each in samplings],
            [each.min_p for each in samplings],
            uniforms,
        )
    )
    return sample(logits, *columns)


def sample(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_p: torch.Tensor,
    top_k: torch.Tensor,
    min_p: torch.Tensor,
    uniform: torch.Tensor,
) -> torch.Tensor:
    """Tokens drawn by inverting the cumulative distribution at `uniform`.

    `logits` is [batch, vocabulary], the others [batch]; the result is [batch]. Of the tokens in falling order of
    probability, those take part that have `min_p` of the first one's, are as likely as number `top_k`, and before which
    less than `top_p` of what is left by then is reached.
    """
    probability, order = (logits / temperature[:, None]).softmax(-1).sort(-1, descending=True)
    whole = torch.ones_like(probability[:, :1])
    if bool((top_k > 0).any() or (min_p > 0).any()):
        least = probability.gather(1, (top_k[:, None] - 1).clamp(0, probability.shape[1] - 1))
        least = torch.where(top_k[:, None] > 0, least, 0)
        probability = probability.masked_fill(
            probability < torch.maximum(least, min_p[:, None] * probability[:, :1]), 0
        )
        cut = (top_k > 0) | (min_p > 0)
        # Rows without either keep the very numbers that they would have alone.
        whole = torch.where(cut[:, None], probability.sum(-1, keepdim=True), whole)
    reached = probability.cumsum(-1)
    probability = probability.masked_fill(reached - probability >= top_p[:, None] * whole, 0)
    reached = probability.cumsum(-1)
    drawn = torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True)
    last = (probability > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(drawn, last))[:, 0]
