"""Where a model turns back while it thinks: it writes ``Wait``."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evaluate.sweep.token_text import Finder

WAIT = "Wait"


def waits(tokens: Sequence[int], cuts: Sequence[int], pieces: Sequence[bytes]) -> list[float]:
    """How often ``Wait`` is complete within the first so many tokens."""
    counts, found = [0.0], 0
    finder = Finder([WAIT], pieces)
    for token in tokens[: max(cuts, default=0)]:
        if finder.add(token):
            found += 1
        counts.append(float(found))
    return [counts[min(cut, len(counts) - 1)] for cut in cuts]
