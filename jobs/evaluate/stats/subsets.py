"""What k samples of an item are worth together: pass@k (one of them is right), majority@k (they vote) and best@k (the
one with the highest score is taken).

All are averages over *all* ways to take k of the n samples that there are, not over the first k: unbiased, of the
least variance that these samples allow, and the same in whatever order they were drawn. All are exact. Arrays are
``[cells]``, a cell being one item under one policy, and hold counts of samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb, roots_legendre

from jobs.evaluate.stats.bounded import Floats

CountArray = NDArray[np.int64]

_NUMBERS_AT_ONCE = 1 << 18
"""Of polynomials' coefficients, per array: 2 MB, which a core's cache holds."""


def pass_at(correct: CountArray, graded: CountArray, most: int) -> Floats:
    """The chance that k samples, taken at random, include a correct one: ``[cells, most]``, for k = 1 … `most`.

    1 - C(n-c, k) / C(n, k) for c correct of n `graded` (Chen et al. 2021, *Evaluating Large Language Models Trained on
    Code*, equation 1), as a product of ratios, so that nothing overflows. NaN where k > n.
    """
    taken = np.arange(most)
    with np.errstate(invalid="ignore", divide="ignore"):
        missed = np.maximum((graded - correct)[:, None] - taken, 0) / (graded[:, None] - taken)
    return np.where(taken < graded[:, None], 1 - np.cumprod(missed, axis=1), np.nan)


def majority_at(correct: CountArray, blank: CountArray, wrong: CountArray, most: int) -> Floats:
    """The chance that k samples, taken at random, elect the correct answer: ``[cells, most]``, for k = 1 … `most`.

    `wrong`, ``[cells, answers]``, counts the votes of each wrong answer, 0 where there are fewer; `blank` samples have
    no answer and do not vote. A tie goes to each of its m leaders with chance 1/m. When nobody votes, nobody wins.
    NaN where k > n, all samples of the cell.

    The subsets in which the correct answer leads with t votes, tied with m others, are counted by the coefficient of
    x^(k-t) u^m in the product of these polynomials, times C(c, t)::

        (1 + x)^blank * product over wrong answers of (sum over j < t of C(w, j) x^j  +  u C(w, t) x^t)

    and 1/(m + 1) is the integral of u^m over [0, 1], so the shares of all ties are one integral over u. It is that of
    a polynomial, which Gauss and Legendre's rule gives exactly from half as many points as there are rivals with t
    votes. All terms are positive: nothing cancels.
    """
    votes = -np.sort(-wrong, axis=1)
    answers = (votes > 0).sum(axis=1)
    # Cells with the same counts are counted once; those with as many answers stand together, for they take as long.
    kinds, which = np.unique(np.column_stack([answers, correct, blank, votes]), axis=0, return_inverse=True)
    graded = kinds[:, 1:].sum(axis=1)
    ways = _ways(int(graded.max(initial=0)), most)
    won = np.zeros((len(kinds), most + 1))
    start = 0
    for stop in _chunks(kinds[:, 0], most):
        chunk = kinds[start:stop]
        won[start:stop] = _won(chunk[:, 1], chunk[:, 2], chunk[:, 3 : 3 + chunk[-1, 0]], ways)
        start = stop
    subsets = ways[graded]
    share = np.divide(won, subsets, out=np.full_like(won, np.nan), where=subsets > 0)
    return np.minimum(share[which.reshape(-1), 1:], 1)


def best_at(correct: NDArray[np.bool_], scores: Floats, graded: CountArray, most: int) -> Floats:
    """The chance that the best-scored of k samples, taken at random, is correct: ``[cells, most]``, for k = 1 … `most`.

    `correct` and `scores` are ``[cells, samples]``; those of a cell beyond its first `graded` are none. Of samples
    with equal scores each is taken with the same chance. NaN where k > n, all samples of the cell.

    With the samples in descending order, the one at place r leads C(n-r-1, k-1) of the C(n, k) subsets. Samples that
    tie share the places that they fill: within them each is the one taken equally often.
    """
    cells, samples = scores.shape
    there = np.arange(samples) < graded[:, None]
    descending = np.where(there, -scores, np.inf)
    order = np.lexsort((~there, descending), axis=1)
    ranked = np.take_along_axis(descending, order, 1)
    right = np.take_along_axis(correct & there, order, 1).astype(np.float64)
    first = np.ones((cells, samples), dtype=bool)
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first |= np.arange(samples) == graded[:, None]  # what is none ties with nothing that is
    groups = np.cumsum(first.ravel()) - 1
    shares = (np.bincount(groups, right.ravel()) / np.bincount(groups))[groups].reshape(cells, samples)
    chances = np.full((cells, most), np.nan)
    for taken_of in np.unique(graded[graded > 0]):
        rows = graded == taken_of
        ways = _ways(int(taken_of), most)
        places = ways[taken_of - 1 - np.arange(taken_of), :-1]  # C(n-r-1, k-1): [places, k]
        with np.errstate(invalid="ignore", divide="ignore"):
            leads = np.where(ways[taken_of, 1:] > 0, places / ways[taken_of, 1:], np.nan)
        chances[rows] = shares[rows, :taken_of] @ leads
    return np.minimum(chances, 1)


def _ways(samples: int, most: int) -> Floats:
    """C(n, k) for all n up to `samples` and k up to `most`."""
    return np.asarray(comb(np.arange(samples + 1)[:, None], np.arange(most + 1)))


def _chunks(answers: CountArray, most: int) -> list[int]:
    """Where to cut rows, by their ascending numbers of `answers`, so that each piece's polynomials fit in memory."""
    ends = []
    start = 0
    while start < len(answers):
        rows = max(1, _NUMBERS_AT_ONCE // ((most + 1) * (int(answers[start]) // 2 + 1)))
        start = min(start + rows, len(answers))
        ends.append(start)
    return ends


def _won(correct: CountArray, blank: CountArray, wrong: CountArray, ways: Floats) -> Floats:
    """The subsets of each size k, ``[cells, 0 … most]``, that elect the correct answer, ties counted by their share."""
    most = ways.shape[1] - 1
    won = np.zeros((len(correct), most + 1))
    for led_by in range(1, min(int(correct.max(initial=0)), most) + 1):
        rows = np.flatnonzero(correct >= led_by)
        votes = wrong[rows]
        rivals = votes >= led_by
        ties = int(rivals.sum(axis=1).max(initial=0))
        points, weights = roots_legendre(ties // 2 + 1)
        # Blanks and answers that cannot reach the lead take any number of places.
        others = blank[rows] + np.where(rivals, 0, votes).sum(axis=1)
        filled = np.repeat(ways[others, None, : most + 1 - led_by], len(points), axis=1)
        for rival in range(ties):
            members = np.flatnonzero(rivals[:, rival])
            takes = ways[votes[members, rival], : led_by + 1]
            filled[members] = _with_rival(filled[members], takes, (points + 1) / 2)
        won[rows, led_by:] += ways[correct[rows], led_by, None] * np.einsum("q,rqk->rk", weights / 2, filled)
    return won


def _with_rival(filled: Floats, takes: Floats, tied: NDArray[Any]) -> Floats:
    """Polynomials ``[rows, points, degree]`` times a rival's, ``[rows, votes]``, whose last term is the tie."""
    product = np.zeros_like(filled)
    length, last = filled.shape[2], takes.shape[1] - 1
    for taken in range(min(last, length - 1) + 1):
        factor = takes[:, None, taken, None] * (tied[None, :, None] if taken == last else 1)
        product[:, :, taken:] += factor * filled[:, :, : length - taken]
    return product
