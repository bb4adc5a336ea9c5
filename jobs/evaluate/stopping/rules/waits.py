"""``{rule: waits, after: 1}``: thinking ends where the model writes ``Wait``, its last word.

Nothing is probed on the way, and budgets have no part in it: the one answer that it looks at is forced right there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import Place, RuleKind, whole
from jobs.evaluate.stopping.trace_rule import TraceRule

WAIT = "Wait"
"""Where a model turns back while it thinks."""


@dataclass(frozen=True)
class Waits(TraceRule):
    """The model has written it so many times."""

    probes = False
    online = True

    after: int = 1

    def __post_init__(self) -> None:
        whole("after", self.after, 1)

    @property
    def setting(self) -> str:
        return f"after {self.after}"

    @property
    def place(self) -> Place:
        return Place(WAIT, self.after)

    def when(self, probes: Probes) -> Bools:
        return np.ones(probes.answer.shape, dtype=bool)


KIND = RuleKind(Waits, "the model has written Wait so many times")
