"""``{rule: slope, over: 3, threshold: 0.01}``: more thinking makes the answer no surer.

The slope of a line through the last probes' mean probabilities (see ``logprob``), by least squares, per probe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import RuleKind, share, whole
from jobs.evaluate.stopping.trace_rule import TraceRule


@dataclass(frozen=True)
class ConfidenceSlope(TraceRule):
    """Over so many probes, the slope is at most the threshold. Before there are as many, it goes on."""

    online = True

    threshold: float = 0.0
    over: int = 3

    def __post_init__(self) -> None:
        share("threshold", self.threshold)
        whole("over", self.over, 2)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"logprob"})

    @property
    def setting(self) -> str:
        return f"{self.threshold:g} over {self.over}"

    def when(self, probes: Probes) -> Bools:
        sure = np.exp(probes.signals["logprob"])
        places = np.arange(self.over) - (self.over - 1) / 2
        weights = places / (places**2).sum()
        flat = np.zeros(sure.shape, dtype=bool)
        columns = sure.shape[2] - self.over + 1
        if columns > 0:
            slopes = sum(weight * sure[:, :, back : back + columns] for back, weight in enumerate(weights))
            flat[:, :, self.over - 1 :] = slopes <= self.threshold
        return flat


KIND = RuleKind(ConfidenceSlope, "the answer's probability no longer rises")
