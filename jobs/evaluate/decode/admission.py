"""How many units a replica decodes at once: as many as its engine's cache of keys and values is expected to hold.

A fork costs its new tokens only while its prefix is cached. Forks and children go ahead of new trunks, but that is of
no use when the trunks under way have filled the cache and push each other's prefixes out; so a unit is let in when
there is room for all of it. Room for the longest that it could become would be safe and wasteful: with 32k tokens of
context, an ``auto`` budget, and thinking of 6k tokens in the mean, four fifths of the cache would lie idle. So what is
left is foretold from the units that are there: one that has so many tokens is expected to become as long as those
finished ones that had more, in the mean, and as long as it may become where there were none. At first, that
admits by the worst case; as units finish it finds the lengths of the sweep, tail included, and it is never misled
by the short ones finishing first, because those that are still under way count too. What turns out longer than
foretold costs time (the engine computes a prefix again), never a result.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate

REMEMBERED = 256
"""Finished units that foretell: the sweep goes on with items like its latest."""


def _nothing() -> int:
    return 0


@dataclass(eq=False)
class Ticket:
    """A unit that waits to be let in, or was."""

    longest: int
    """Tokens that it could become, in one sequence."""
    size: Callable[[], int] = field(default=_nothing)
    """Tokens of it that are worth caching by now. Set by whoever holds the ticket."""


class Admission:
    """At most `most` units at once, and no more than are expected to fit `capacity` tokens; None: any number fits."""

    def __init__(self, capacity: int | None, most: int):
        self._capacity = capacity
        self._most = most
        self._live: set[Ticket] = set()
        self._waiting: deque[tuple[Ticket, asyncio.Future[None]]] = deque()
        self._recent: deque[int] = deque()
        self._longest = 0
        self._sizes: list[int] = []
        """Of recently finished units, ascending."""
        self._longer: list[int] = [0]
        """The sums of the last 0, 1, 2 … of them."""

    @asynccontextmanager
    async def turn(self, longest: int) -> AsyncIterator[Ticket]:
        """Waits to be let in, in the order of calls. `longest` is how long the unit could become, in tokens."""
        ticket = Ticket(longest)
        self._longest = max(self._longest, longest)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((ticket, granted))
        self.admit()
        try:
            await granted
            yield ticket
            self._note(ticket.size())
        finally:
            if not granted.done():
                granted.cancel()
            self._live.discard(ticket)
            self.admit()

    def admit(self) -> None:
        """Lets in who fits by now. Called when units end, and now and then, because those under way grow."""
        while self._waiting:
            ticket, granted = self._waiting[0]
            if granted.done():  # given up
                self._waiting.popleft()
                continue
            if self._live and not self._fits(ticket):
                return
            self._waiting.popleft()
            self._live.add(ticket)
            granted.set_result(None)

    @property
    def at_once(self) -> int:
        """How many units fit at once, as far as those so far tell."""
        if self._capacity is None or not self._longest:
            return self._most
        return max(1, len(self._live), min(self._most, int(self._capacity / self._expected_next(self._longest))))

    def _fits(self, ticket: Ticket) -> bool:
        if len(self._live) >= self._most:
            return False
        if self._capacity is None:
            return True
        return sum(map(self._expected, self._live)) + self._expected_next(ticket.longest) <= self._capacity

    def _expected(self, ticket: Ticket) -> float:
        """The size that a unit under way will come to."""
        size = ticket.size()
        more = len(self._sizes) - bisect_right(self._sizes, size)
        return self._longer[more] / more if more else max(size, ticket.longest)

    def _expected_next(self, longest: int) -> float:
        """The size that a unit will come to of which nothing is there."""
        known = len(self._sizes) + len(self._live)
        return (self._longer[-1] + sum(map(self._expected, self._live))) / known if known else longest

    def _note(self, size: int) -> None:
        if self._capacity is None:
            return
        if len(self._recent) == REMEMBERED:
            del self._sizes[bisect_right(self._sizes, self._recent.popleft()) - 1]
        self._recent.append(size)
        insort(self._sizes, size)
        self._longer = [0, *accumulate(reversed(self._sizes))]
