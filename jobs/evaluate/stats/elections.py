"""What k of a cell's samples elect, by each way to vote: exact and unbiased at every k, from the one pool of samples.

The arithmetic is in :mod:`jobs.evaluate.stats.subsets`, and where subsets have to be drawn in
:mod:`jobs.evaluate.stats.weighted`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.pool import CORRECT, ERROR, NONE, Pool
from jobs.evaluate.stats.subsets import CountArray, best_at, majority_at, pass_at
from jobs.evaluate.stats.votes import VoteKind
from jobs.evaluate.stats.weighted import weighted_at


@dataclass(frozen=True)
class Ballots:
    """The samples of each cell: how many said what, ``[items, policies]``, and each by itself."""

    correct: Floats
    blank: Floats
    wrong: CountArray
    """Of each wrong answer, ``[items, policies, answers]``."""
    graded: Floats
    pool: Pool | None = None
    """None where only counts are known: nothing scored can then be made of them."""

    def __getitem__(self, columns: slice) -> Ballots:
        """Of some policies."""
        return Ballots(
            self.correct[:, columns],
            self.blank[:, columns],
            self.wrong[:, columns],
            self.graded[:, columns],
            self.pool and self.pool[columns],
        )


@dataclass(frozen=True)
class Elected:
    """What it comes to at each k."""

    chances: Floats
    """Of the correct answer, ``[items, policies, ks]``; NaN where a cell has fewer samples."""
    errors: Floats | None = None
    """What drawing subsets at random adds to the standard error of the mean over items, ``[policies, ks]``; None: it is
    exact."""


def _passed(ballots: Ballots, scores: Floats | None, ks: Sequence[int], seed: int) -> Elected:
    return _counted(ballots, ks, lambda correct, blank, wrong, graded, most: pass_at(correct, graded, most))


def _majority(ballots: Ballots, scores: Floats | None, ks: Sequence[int], seed: int) -> Elected:
    return _counted(ballots, ks, lambda correct, blank, wrong, graded, most: majority_at(correct, blank, wrong, most))


def _counted(ballots: Ballots, ks: Sequence[int], chance: Callable[..., Floats]) -> Elected:
    """Of counts: the chances of all cells at once, ``[cells, most]``."""
    correct, blank, graded = (
        each.astype(np.int64).ravel() for each in (ballots.correct, ballots.blank, ballots.graded)
    )
    wrong = ballots.wrong.reshape(len(correct), ballots.wrong.shape[2])
    chances = chance(correct, blank, wrong, graded, max(ks))[:, np.array(ks) - 1]
    return Elected(chances.reshape(*ballots.correct.shape, len(ks)))


def _weighted(ballots: Ballots, scores: Floats | None, ks: Sequence[int], seed: int) -> Elected:
    assert ballots.pool, "a scored vote is given samples"
    assert scores is not None, "and their scores"
    chances, errors = weighted_at(ballots.pool, scores, ks, seed)
    return Elected(np.where(_scored(ballots.pool, scores)[..., None], chances, np.nan), errors)


def _best(ballots: Ballots, scores: Floats | None, ks: Sequence[int], seed: int) -> Elected:
    """A sample without an answer is taken where no other has one."""
    assert ballots.pool, "a scored vote is given samples"
    assert scores is not None, "and their scores"
    said = ballots.pool.said.reshape(-1, ballots.pool.said.shape[2])
    drawn = (said != ERROR) & (said != NONE)
    order = np.argsort(~drawn, axis=1, kind="stable")
    said = np.take_along_axis(said, order, 1)
    ranked = np.where(said < 0, -1.0, np.take_along_axis(scores.reshape(said.shape), order, 1))
    chances = best_at(said == CORRECT, ranked, drawn.sum(axis=1), max(ks))[:, np.array(ks) - 1]
    chances = chances.reshape(*ballots.correct.shape, len(ks))
    return Elected(np.where(_scored(ballots.pool, scores)[..., None], chances, np.nan))


def _scored(pool: Pool, scores: Floats) -> NDArray[np.bool_]:
    """Whether the samples of a policy have a score, each that says something, ``[1, policies]``.

    Of policies, and not of items: where no sample of an item says anything none needs a score, and an accuracy on such
    items alone would be of those that are hardest.
    """
    unknown = np.isnan(scores)
    lacking = (unknown & (pool.said >= CORRECT)).any(axis=(0, 2))
    having = (~unknown & (pool.said != NONE)).any(axis=(0, 2))
    return np.asarray(having & ~lacking)[None, :]


PASS = VoteKind(_passed, "one of the k is correct", oracle=True)
MAJORITY = VoteKind(_majority, "the answer that most of the k give")
WEIGHTED = VoteKind(_weighted, "the answer whose scores add up to most", scored=True, dense=False)
BEST = VoteKind(_best, "the answer with the highest score", scored=True)
