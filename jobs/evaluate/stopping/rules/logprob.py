"""``{rule: logprob, threshold: 0.95}``: the answer at a probe is as good as certain, by its tokens' probabilities.

The geometric mean of the probabilities of the answer's tokens, as in Yang et al. 2025, *Dynamic Early Exit in Reasoning
Models*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import RuleKind, share
from jobs.evaluate.stopping.trace_rule import TraceRule


@dataclass(frozen=True)
class MeanLogprob(TraceRule):
    """exp of the mean log-probability is at least the threshold."""

    online = True

    threshold: float = 0.95

    def __post_init__(self) -> None:
        share("threshold", self.threshold)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"logprob"})

    @property
    def setting(self) -> str:
        return f"{self.threshold:g}"

    def when(self, probes: Probes) -> Bools:
        return np.exp(probes.signals["logprob"]) >= self.threshold


KIND = RuleKind(MeanLogprob, "the mean probability of the answer's tokens is at least so much")
