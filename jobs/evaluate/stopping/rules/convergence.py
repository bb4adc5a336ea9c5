"""``{rule: convergence, agree: 3}``: the last probes all say the same.

Answer consistency, as in Liu and Wang 2025, *Answer Convergence as a Signal for Early Stopping in Reasoning*.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import RuleKind, whole
from jobs.evaluate.stopping.trace_rule import TraceRule


@dataclass(frozen=True)
class Convergence(TraceRule):
    """So many probes in a row agree; those without an answer agree with none."""

    online = True

    agree: int = 3

    def __post_init__(self) -> None:
        whole("agree", self.agree, 2)

    @property
    def setting(self) -> str:
        return f"{self.agree} agree"

    def when(self, probes: Probes) -> Bools:
        said = probes.answer
        agrees = said >= 0
        for back in range(1, self.agree):
            agrees[:, :, back:] &= said[:, :, back:] == said[:, :, :-back]
        agrees[:, :, : self.agree - 1] = False
        return agrees


KIND = RuleKind(Convergence, "so many probes in a row say the same")
