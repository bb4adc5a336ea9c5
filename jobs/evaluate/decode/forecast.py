"""How far a sweep is, in tokens: those that its units have, of those that they will have come to.

Units alone tell little. A few hundred long traces decode side by side, and for ten minutes not one of them ends. So
what counts is tokens, those of unfinished units too, and what all units will come to is foretold from the units that
are there, as admission does (:mod:`jobs.evaluate.decode.admission`): one that has so many tokens is expected to become
as long as the finished ones that had more, in the mean, and what has not begun as long as those are. Units that are
still under way count with what they are expected to become, so that the short ones, which finish first, do not mislead.
Until one has finished, the plan's lengths stand in.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

WINDOW_SECONDS = 120.0
"""Over which the rate is taken: it falls when few traces are left, and starts only when engines have loaded."""


@dataclass(frozen=True)
class Progress:
    """What a sweep shows while it decodes."""

    tokens: int
    expected: int
    """Of all units, when they are done."""
    units: int
    """That are done."""


class Forecast:
    """Knows the sizes of a sweep's units, in tokens."""

    def __init__(self, planned: float):
        """`planned` is the mean size that the plan assumes."""
        self._planned = planned
        self._sizes: list[int] = []
        """Of finished units, ascending."""
        self._longer: list[int] = [0]
        """The sums of the last 0, 1, 2 … of them."""

    def finished(self, sizes: Iterable[int]) -> None:
        """Units that came to so many tokens."""
        fresh = sorted(sizes)
        if not fresh:
            return
        for size in fresh:
            insort(self._sizes, size)
        self._longer = [0, *accumulate(reversed(self._sizes))]

    def at(self, under_way: Iterable[tuple[int, float]], waiting: Iterable[int]) -> Progress:
        """With units under way that have so many tokens, and can have no more than so many, and others that wait: some
        may have tokens from before."""
        live, queued = list(under_way), list(waiting)
        finished = self._longer[-1]
        becoming = sum(max(size, min(most, self._becomes(size))) for size, most in live)
        known = len(self._sizes) + len(live)
        mean = (finished + becoming) / known if known else self._planned
        coming = sum(max(mean, self._becomes(size)) if size else mean for size in queued)
        tokens = finished + sum(size for size, _ in live) + sum(queued)
        return Progress(tokens, max(tokens, round(finished + becoming + coming)), len(self._sizes))

    def _becomes(self, size: int) -> float:
        """What a unit comes to that has so many tokens. One that is longer than all others is half done, at a guess."""
        more = len(self._sizes) - bisect_right(self._sizes, size)
        if more:
            return self._longer[more] / more
        return max(2.0 * size, 0.0 if self._sizes else self._planned)


class Pace:
    """Tokens per second of late, from which the time that is left follows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        """(seconds, tokens), the oldest of the window first."""

    def left(self, now: float, progress: Progress) -> float | None:
        """Seconds until all is decoded; None while nothing is."""
        while self._seen and progress.tokens <= self._seen[0][1]:  # nothing was decoded yet, or some of it was lost
            self._seen.popleft()
        self._seen.append((now, progress.tokens))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW_SECONDS:
            self._seen.popleft()
        began, before = self._seen[0]
        if progress.tokens == before:
            return None
        return (progress.expected - progress.tokens) * (now - began) / (progress.tokens - before)
