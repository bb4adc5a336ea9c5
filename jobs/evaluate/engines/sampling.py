"""Random numbers that are a function of the stream and the position in it, and tokens drawn with them.

Nothing is carried from token to token, so a row draws the same tokens whatever shares its batch, and a piece that is
continued, on any replica, draws what it would have drawn undisturbed.
"""

from __future__ import annotations

import hashlib
import struct

import torch


def uniform(seed: int, position: int) -> float:
    """The number of the stream `seed` at `position`, in [0, 1)."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32


def sample(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Tokens drawn by inverting the cumulative distribution at `uniform`.

    `logits` is [batch, vocabulary], the others [batch]; the result is [batch]. Of the tokens in falling order of
    probability, those before which less than `top_p` is reached take part.
    """
    probability, order = (logits / temperature[:, None]).softmax(-1).sort(-1, descending=True)
    reached = probability.cumsum(-1)
    probability = probability.masked_fill(reached - probability >= top_p[:, None], 0)
    reached = probability.cumsum(-1)
    drawn = torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True)
    last = (probability > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(drawn, last))[:, 0]
