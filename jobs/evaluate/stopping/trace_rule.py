"""Rules that look at one trace at a time: each says of every probe whether it would stop there."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from jobs.evaluate.stopping.probes import Bools, Probes, Stops, at
from jobs.evaluate.stopping.rule import Rule


class TraceRule(Rule):
    """A rule for one trace."""

    @abstractmethod
    def when(self, probes: Probes) -> Bools:
        """Whether it would stop at a probe, ``[items, samples, probes]``, by that one and those before it. What it says
        of the end of a trace, and beyond, does not matter."""

    def stops(self, probes: Probes) -> Stops:
        """At the first probe of which :meth:`when` is true, or where the trace ends."""
        column = np.argmax(self.when(probes) | ~probes.live, axis=2)
        thinking = at(probes.thinking, column)
        if self.probes:
            spent = np.cumsum(probes.answer_tokens, axis=2) - probes.answer_tokens
            thinking = thinking + at(spent, column)
        samples = np.broadcast_to(np.arange(column.shape[1]), column.shape)
        return Stops(samples, column, thinking, at(probes.answer_tokens, column), np.ones_like(column))
