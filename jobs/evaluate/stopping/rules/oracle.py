"""``{rule: oracle}``: thinking stops at the first right answer. No rule can know: it bounds all that can."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import RuleKind
from jobs.evaluate.stopping.trace_rule import TraceRule


@dataclass(frozen=True)
class Oracle(TraceRule):
    """Its probes cost nothing: what it bounds is accuracy at a number of thinking tokens."""

    probes = False
    told = True

    @property
    def setting(self) -> str:
        return "first right"

    def when(self, probes: Probes) -> Bools:
        return probes.correct


KIND = RuleKind(Oracle, "the first right answer: a bound, and no rule")
