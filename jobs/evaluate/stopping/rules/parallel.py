"""``{rule: parallel, consensus: 0.75, rounds: 2}``: samples think side by side and are probed together.

All of them stop once so large a share says the same in so many rounds of probes in a row. A sample that has ended
keeps its answer, and is not probed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.group_rule import GroupRule, GroupStops, elected
from jobs.evaluate.stopping.probes import Probes
from jobs.evaluate.stopping.rule import RuleKind, share, whole


@dataclass(frozen=True)
class ParallelProbing(GroupRule):
    """The share is of all samples, those without an answer included."""

    consensus: float = 0.75
    rounds: int = 1
    samples: int | None = None

    def __post_init__(self) -> None:
        share("consensus", self.consensus)
        whole("rounds", self.rounds, 1)
        super().__post_init__()

    @property
    def setting(self) -> str:
        of = "" if self.samples is None else f" of {self.samples}"
        return f"{self.consensus:g}{of}" + ("" if self.rounds == 1 else f", {self.rounds} rounds")

    def together(self, probes: Probes) -> GroupStops:
        groups, size, columns = probes.answer.shape
        everyone = np.ones((groups, size))
        agreed = np.zeros(groups, dtype=np.int64)
        said = np.full(groups, -1)
        column = np.full(groups, columns - 1)
        winners = np.zeros((columns, groups), dtype=np.int64)
        for probe in range(columns):
            answers = probes.answer[:, :, probe]
            winners[probe], share_of_votes = elected(answers, everyone)
            leader = answers[np.arange(groups), winners[probe]]
            votes = (answers >= 0).sum(axis=1) * share_of_votes
            enough = (leader >= 0) & (votes >= self.consensus * size - 1e-9)
            agreed = np.where(enough, np.where(leader == said, agreed + 1, 1), 0)
            said = np.where(enough, leader, -1)
            stops = (agreed >= self.rounds) | ~probes.live[:, :, probe].any(axis=1)
            column = np.where(stops & (column == columns - 1), np.minimum(column, probe), column)
        at = column[:, None, None]
        paid = np.where(probes.live, probes.answer_tokens, 0)
        spent = np.take_along_axis(np.cumsum(paid, axis=2) - paid, at, axis=2).sum(axis=(1, 2))
        thinking = np.take_along_axis(probes.thinking, at, axis=2).sum(axis=(1, 2))
        answers_spoken = np.take_along_axis(probes.answer_tokens, at, axis=2).sum(axis=(1, 2))
        winner = winners[column, np.arange(groups)]
        return GroupStops(winner, column, thinking + spent, answers_spoken, np.full(groups, size))


KIND = RuleKind(ParallelProbing, "samples side by side, until so many of them say the same")
