"""How many positions meet the vocabulary at once, where the loss is computed in chunks. Standard library only."""

from __future__ import annotations

SMALLEST = 64
"""Positions. Every chunk reads the vocabulary's matrix and adds to its gradient as a whole: with fewer, that takes
longer than the products. torch's own choice for 2,000 positions of a width of 256 and 32,768 words is 8, which took ten
times as long on a CPU as 64; 64 and 1,024 took the same."""


def positions_at_once(positions: int, width: int, words: int) -> int:
    """The length of a chunk of `positions`, each `width` wide, on a vocabulary of `words`.

    One whose logits are about as large as all that comes in: a power of two. At most `positions`, and at least 1.
    """
    share = -(-positions // -(-words // width))
    return max(1, min(positions, max(SMALLEST, 1 << max(share - 1, 0).bit_length())))
