"""Rules that look at several samples of an item together: votes.

The samples of an item are taken in groups, in their order, so that runs of a rule share no sample and are as
independent as single samples are. Arrays are ``[groups, samples]``, groups those of all items.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np

from jobs.evaluate.stopping.probes import Bools, Ints, Matrix, Probes, Reals, Stops
from jobs.evaluate.stopping.rule import Rule


class GroupStops(NamedTuple):
    """What a rule comes to on each group, ``[groups]``."""

    winner: Ints
    """Whose answer is given, by its place in the group."""
    probe: Ints
    thinking: Ints
    answers: Ints
    looked_at: Ints


class GroupRule(Rule):
    """A rule for groups of samples."""

    samples: int | None
    """Of a group; None: all of an item."""

    @property
    def runs_of(self) -> int | None:
        return self.samples

    @property
    def least(self) -> int:
        return self.samples or self.fewest

    @property
    def fewest(self) -> int:
        """Samples that a group must have."""
        return 2

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < self.fewest:
            raise ValueError(f"samples: {self.samples} is too few: give a whole number from {self.fewest}")

    @abstractmethod
    def together(self, probes: Probes) -> GroupStops:
        """What it comes to; `probes` are ``[groups, samples, probes]``."""

    def stops(self, probes: Probes) -> Stops:
        """Group by group. Samples that fill no group are left out."""
        items, samples, columns = probes.answer.shape
        size = samples if self.samples is None else self.samples
        runs = samples // size

        def grouped(matrix: Matrix) -> Matrix:
            return matrix[:, : runs * size].reshape(items * runs, size, columns)

        decided = self.together(probes.each(grouped, grouped(probes.live)))
        winner, *others = (np.asarray(each).reshape(items, runs) for each in decided)
        return Stops(winner + size * np.arange(runs), *others)


def elected(answers: Ints, weights: Reals | Bools) -> tuple[Ints, Reals]:
    """The sample that first gave the answer with most weight, ``[groups]``, and that answer's share of all weight.

    Those without an answer have no vote. Where nobody has one, it is the first sample, and the share is 0.
    """
    votes = np.where(answers >= 0, weights, 0).astype(np.float64)
    same = answers[:, :, None] == answers[:, None, :]
    scores = np.einsum("gij,gj->gi", same, votes) * (votes > 0)
    winner = np.argmax(scores, axis=1)
    total = votes.sum(axis=1)
    best = np.take_along_axis(scores, winner[:, None], axis=1)[:, 0]
    return winner, np.divide(best, total, out=np.zeros_like(best), where=total > 0)


def at_ends(probes: Probes, drawn: Bools) -> tuple[Ints, Ints, Ints]:
    """Of samples that are `drawn` and think to their ends: those answers, ``[groups, samples]``, and the tokens of
    thinking and of answers, ``[groups]``."""
    last = (..., -1)
    thinking = (probes.thinking[last] * drawn).sum(axis=1)
    return probes.answer[last], thinking, (probes.answer_tokens[last] * drawn).sum(axis=1)


def sampled(probes: Probes, looked_at: Ints) -> GroupStops:
    """The majority of the first `looked_at` samples of each group, all of which think to their ends."""
    drawn = np.arange(probes.answer.shape[1]) < looked_at[:, None]
    answers, thinking, spoken = at_ends(probes, drawn)
    winner, _ = elected(answers, drawn)
    return GroupStops(winner, np.full_like(winner, probes.answer.shape[2] - 1), thinking, spoken, looked_at)
