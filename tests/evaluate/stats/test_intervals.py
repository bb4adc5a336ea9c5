"""Statistics against closed forms, scipy, and simulated data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from jobs.evaluate.stats.intervals import (
    Interval,
    Shares,
    Sums,
    estimates,
    percentile_intervals,
    resampled_shares,
    wilson,
)


def one_point(correct: list[float], graded: list[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return np.array(correct)[:, None], np.array(graded or [1.0] * len(correct))[:, None]


def middle(resampled: np.ndarray, items: int) -> Interval:
    (interval,) = percentile_intervals(resampled[:, None], items)
    return interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 30), (1, 30), (15, 30), (30, 30), (191, 200), (7, 10_000)])
def test_wilson_is_scipys(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    found = wilson(successes / trials, trials)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("share", [1e-17, 0.3, 1 - 2**-53])
def test_a_share_is_in_its_own_interval(share: float) -> None:
    for trials in (1, 7, 1e3, 1e9):
        assert wilson(share, trials).low <= share <= wilson(share, trials).high


def test_a_share_of_nothing_has_no_interval() -> None:
    assert math.isnan(wilson(math.nan, 0).low)


def test_the_bootstrap_of_a_share_has_its_binomial_spread() -> None:
    correct, graded = one_point([1.0] * 60 + [0.0] * 140)
    shares = resampled_shares(correct, graded, seed=0)
    assert shares.shape == (10_000, 1)
    assert shares.mean() == pytest.approx(0.3, abs=0.002)
    assert shares.std() == pytest.approx(math.sqrt(0.3 * 0.7 / 200), rel=0.03)
    # Close to the normal approximation: 200 items are enough for that.
    half = norm.ppf(0.975) * math.sqrt(0.3 * 0.7 / 200)
    interval = middle(shares[:, 0], 200)
    assert (interval.low, interval.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)


def test_the_bootstrap_repeats_with_its_seed_and_does_not_depend_on_how_much_is_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct, graded = one_point([1.0, 0, 0, 1, 1, 0, 1])
    first = resampled_shares(correct, graded, seed=3)
    assert (first == resampled_shares(correct, graded, seed=3)).all()
    assert (first != resampled_shares(correct, graded, seed=4)).any()
    monkeypatch.setattr("jobs.evaluate.stats.intervals._DRAWN_AT_ONCE", 700)
    assert (first == resampled_shares(correct, graded, seed=3)).all()


def test_a_point_that_was_not_graded_in_any_draw_is_not_a_number() -> None:
    shares = resampled_shares(np.zeros((4, 1)), np.zeros((4, 1)), seed=0, resamples=10)
    assert np.isnan(shares).all()
    assert math.isnan(middle(shares[:, 0], 4).low)


def test_one_denominator_for_all_points_is_that_of_each() -> None:
    correct = np.random.default_rng(0).random((20, 3))
    shares = resampled_shares(correct, np.ones((20, 1)), seed=0, resamples=50)
    assert (shares == resampled_shares(correct, np.ones((20, 3)), seed=0, resamples=50)).all()


@pytest.mark.parametrize(
    ("items", "samples", "ease"), [(30, 8, (1.2, 0.8)), (30, 64, (0.5, 2.0)), (200, 8, (0.6, 0.4))]
)
def test_either_interval_covers_the_truth_19_times_of_20(items: int, samples: int, ease: tuple[float, float]) -> None:
    """500 sweeps of items of different ease, none of them nearly always or never solved."""
    rng = np.random.default_rng(items)
    right = rng.binomial(samples, rng.beta(*ease, (items, 500))).astype(float)
    found = estimates(Shares.certain(right, np.full((items, 1), float(samples))), seed=0)
    truth = ease[0] / sum(ease)
    for intervals in ([each.interval for each in found], [each.bootstrap for each in found]):
        assert 0.92 <= np.mean([each.low <= truth <= each.high for each in intervals]) <= 0.98


def test_items_that_were_asked_unequally_often_are_a_ratio() -> None:
    """Their values average to right / asked, and who was not asked says nothing."""
    sums = Sums(np.array([[1.0], [2.0], [0.0]]), np.array([[1.0], [4.0], [0.0]]))
    assert sums.means == pytest.approx([3 / 5])
    assert sums.values.mean(axis=0) == pytest.approx([3 / 5])
    assert sums.values[2] == pytest.approx([3 / 5])
    assert sums.items == 2


def test_errors_reach_from_all_wrong_to_all_right() -> None:
    """40 items right, 40 wrong, 20 with errors: what could be graded says 50%, and it may be 40% or 60%."""
    correct, errors = np.zeros((100, 1)), np.zeros((100, 1))
    correct[:40], errors[80:] = 1, 1
    graded, every = Sums(correct, 1 - errors), np.ones((100, 1))
    shares = Shares(graded, Sums(correct, every), Sums(correct + errors, every))
    (found,) = estimates(shares, seed=0, reference=Shares.certain(np.full((100, 1), 0.5), every))
    (least,), (most,) = (estimates(Shares.certain(each, every), seed=0) for each in (correct, correct + errors))
    assert (found.value, found.range) == (0.5, Interval(0.4, 0.6))
    assert found.interval == Interval(least.interval.low, most.interval.high)
    assert found.difference is not None
    assert (found.difference.range.low, found.difference.range.high) == pytest.approx((-0.1, 0.1))
    assert found.difference.p_value == 1, "no difference is among what may have been"
