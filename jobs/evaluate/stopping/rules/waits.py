"""``{rule: waits, after: 1}``: thinking stops where the model writes ``Wait``, at the first probe after it.

Nothing is probed: where the model turns back is read in what it thinks.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import RuleKind, whole
from jobs.evaluate.stopping.trace_rule import TraceRule


@dataclass(frozen=True)
class Waits(TraceRule):
    """The model has written it so many times."""

    needs = frozenset({"waits"})
    probes = False
    online = True

    after: int = 1

    def __post_init__(self) -> None:
        whole("after", self.after, 1)

    @property
    def setting(self) -> str:
        return f"after {self.after}"

    def when(self, probes: Probes) -> Bools:
        return probes.signals["waits"] >= self.after


KIND = RuleKind(Waits, "the model has written Wait so many times")
