"""How fast a sweep decodes, and from that the time that is left.

A step of an engine gives each trace one token. It takes a time of its own, however few traces there are, and a time for
each of them: seconds = a · steps + b · tokens. Which of the two it is decides how long the last traces take, which
decode alone: an engine that reads a large model's weights at each step is hardly faster for one trace than for sixty,
one that computes on two cores sixty times. Both are fitted to what was seen. As long as the number of traces was always
about the same, that tells only their sum, and a guess decides: a third is for the tokens.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from jobs.evaluate.decode.forecast import Progress

RATE_SECONDS = 120.0
"""Over which the rate is taken: it falls as traces get longer, and starts only when engines have loaded."""
FIT_SECONDS = 3600.0
"""Over which it is seen what fewer traces do to it."""
APART_SECONDS = 10.0
"""Between two times that are kept: tokens are told in lumps."""
GUESSED = 1 / 3
"""The share of a step's time that is for its traces."""
WEIGHT = 0.02
"""Of the guess, in all that was seen: that many steps of no trace at all."""


@dataclass(frozen=True)
class _Mark:
    seconds: float
    tokens: int
    """Decoded until then, what was lost again with a replica included."""
    steps: float
    """Tokens of one trace in the mean until then."""


class Pace:
    """Seconds per step and per token, of late."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        """The oldest first; the last is now."""
        self._before: Progress | None = None

    def left(self, now: float, progress: Progress) -> float | None:
        """Seconds until all is decoded; None while nothing is."""
        last = self._see(now, progress)
        lately = next(mark for mark in self._marks if now - mark.seconds <= RATE_SECONDS)
        if lately.tokens == last.tokens:
            lately = self._marks[0]
        if lately.tokens == last.tokens:
            return None
        per_step, per_token = self._fitted()
        foretold = per_step * (last.steps - lately.steps) + per_token * (last.tokens - lately.tokens)
        left = per_step * progress.steps + per_token * (progress.expected - progress.tokens)
        return left * (now - lately.seconds) / foretold

    def _see(self, now: float, progress: Progress) -> _Mark:
        before, self._before = self._before or progress, progress
        marks = self._marks
        last = marks[-1] if marks else _Mark(now, 0, 0.0)
        decoded = max(0, progress.tokens - before.tokens)
        at_once = max(1.0, ((before.under_way or progress.under_way) + progress.under_way) / 2)
        mark = _Mark(now, last.tokens + decoded, last.steps + decoded / at_once)
        if mark.tokens == 0:
            marks.clear()  # nothing was decoded yet: engines load
        if len(marks) > 1 and now - marks[-2].seconds < APART_SECONDS:
            marks.pop()
        marks.append(mark)
        while now - marks[0].seconds > FIT_SECONDS:
            marks.popleft()
        return mark

    def _fitted(self) -> tuple[float, float]:
        """Seconds per step and per token, neither below 0: least squares, and the guess beside what was seen."""
        pairs = [
            (new.seconds - old.seconds, new.steps - old.steps, new.tokens - old.tokens)
            for old, new in pairwise(self._marks)
        ]
        seen = [each for each in pairs if each[2] > 0]
        seconds, steps, tokens = (sum(each[column] for each in seen) for column in range(3))
        per_step = seconds / steps
        xx = sum(x * x for _, x, _ in seen) * (1 + WEIGHT)
        xk = sum(x * k for _, x, k in seen)
        kk = sum(k * k for _, _, k in seen)
        xt = sum(x * t for t, x, _ in seen) + WEIGHT / (1 + WEIGHT) * xx * (1 - GUESSED) * per_step
        kt = sum(k * t for t, _, k in seen)
        by_step, by_token = xt * kk - kt * xk, kt * xx - xt * xk
        if by_step <= 0:
            return 0.0, seconds / tokens
        if by_token <= 0:
            return per_step, 0.0
        determinant = xx * kk - xk * xk
        return by_step / determinant, by_token / determinant
