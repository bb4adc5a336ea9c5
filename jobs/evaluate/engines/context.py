"""What ``context_length: auto`` comes to."""

from __future__ import annotations

MOST_AUTO = 32_768
"""Tokens. Models that say 131,072 positions are not meant to think for so long, but one that goes in circles would: an
``auto`` budget lets it go on to the end, at several times the time and the cache of the traces that matter. This is the
context of the s1 paper, and the longest output that DeepSeek-R1 and QwQ are recommended with."""


def auto_context(positions: int) -> int:
    """The context of a model that has so many positions, where the experiment gives none."""
    return min(positions, MOST_AUTO)


def context_remarks(positions: int | None) -> tuple[str, ...]:
    """What is to be said where that is less than the model has, or may be: None is a model that does not say."""
    if positions is not None and positions <= MOST_AUTO:
        return ()
    of = f"at most {MOST_AUTO:,}" if positions is None else f"{MOST_AUTO:,} of the model's {positions:,}"
    return (f"context_length: auto is {of} tokens: give a number for more or fewer",)
