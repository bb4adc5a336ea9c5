"""Statistics against closed forms, scipy, and simulated data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from jobs.evaluate.statistics import (
    Difference,
    Interval,
    effective_trials,
    estimates,
    paired_differences,
    percentile_intervals,
    resampled_shares,
    wilson,
)


def one_point(correct: list[float], graded: list[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return np.array(correct)[:, None], np.array(graded or [1.0] * len(correct))[:, None]


def middle(resampled: np.ndarray, items: int) -> Interval:
    (interval,) = percentile_intervals(resampled[:, None], items)
    return interval


def difference_of(value: float, resampled: np.ndarray, reference: np.ndarray, items: int) -> Difference:
    (found,) = paired_differences(np.array([value]), resampled[:, None], reference[:, None], items)
    return found


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


def test_with_one_sample_per_item_each_item_is_a_trial() -> None:
    assert effective_trials(np.array([1.0, 0, 1, 1, 0]), np.ones(5)) == 5


def test_samples_that_agree_are_worth_one_trial_per_item_and_independent_ones_nearly_all() -> None:
    rng = np.random.default_rng(0)
    samples = np.full(500, 64.0)
    agreeing = 64.0 * (rng.random(500) < 0.4)
    assert effective_trials(agreeing, samples) == pytest.approx(500, rel=0.01)
    independent = rng.binomial(64, 0.4, 500).astype(float)
    assert effective_trials(independent, samples) > 0.8 * 500 * 64
    assert effective_trials(samples, samples) == 500


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
    monkeypatch.setattr("jobs.evaluate.statistics._DRAWN_AT_ONCE", 700)
    assert (first == resampled_shares(correct, graded, seed=3)).all()


def test_a_point_that_was_not_graded_in_any_draw_is_not_a_number() -> None:
    shares = resampled_shares(np.zeros((4, 1)), np.zeros((4, 1)), seed=0, resamples=10)
    assert np.isnan(shares).all()
    assert math.isnan(middle(shares[:, 0], 4).low)


def test_points_that_differ_by_rounding_do_not_differ() -> None:
    resampled = np.full(1000, 0.3)
    difference = difference_of(0.0, resampled, resampled - 1e-16, 30)
    assert difference.interval == Interval(0, 0)
    assert difference.p_value == 1


def test_one_denominator_for_all_points_is_that_of_each() -> None:
    correct = np.random.default_rng(0).random((20, 3))
    shares = resampled_shares(correct, np.ones((20, 1)), seed=0, resamples=50)
    assert (shares == resampled_shares(correct, np.ones((20, 3)), seed=0, resamples=50)).all()


def test_equal_points_do_not_differ() -> None:
    rng = np.random.default_rng(1)
    correct = np.repeat((rng.random(100) < 0.5).astype(float)[:, None], 2, axis=1)
    shares = resampled_shares(correct, np.ones((100, 2)), seed=0)
    difference = difference_of(0.0, shares[:, 0], shares[:, 1], 100)
    assert difference.interval == Interval(0, 0)
    assert difference.p_value == 1


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    """9 of 200 items get better and none worse: certain when paired, lost in the noise of either accuracy."""
    before = np.repeat([1.0, 0.0], 100)
    after = before.copy()
    after[100:109] = 1
    shares = resampled_shares(np.stack([before, after], axis=1), np.ones((200, 2)), seed=0)
    difference = difference_of(0.045, shares[:, 1], shares[:, 0], 200)
    assert difference.p_value < 0.001
    assert difference.interval.low > 0
    assert middle(shares[:, 0], 200).high > middle(shares[:, 1], 200).low


def test_the_p_value_is_that_of_a_normal_test_where_that_holds() -> None:
    """30 items better and 20 worse of 400: z = 10 / sqrt(50 - 100/400)."""
    change = np.zeros(400)
    change[:30], change[30:50] = 1, -1
    before = np.zeros(400)
    before[30:50] = 1
    shares = resampled_shares(np.stack([before, before + change], axis=1), np.ones((400, 2)), seed=0)
    difference = difference_of(0.025, shares[:, 1], shares[:, 0], 400)
    assert difference.p_value == pytest.approx(2 * norm.sf(10 / math.sqrt(50 - 0.25)), abs=0.02)
    assert difference.interval.low == pytest.approx(0.025 - norm.ppf(0.975) * math.sqrt(49.75) / 400, abs=0.003)


SIMULATED = 2000


@pytest.mark.parametrize(
    ("items", "samples", "ease"),
    [(30, 8, (1.2, 0.8)), (30, 64, (0.5, 2.0)), (100, 1, (1.2, 0.8)), (200, 8, (0.6, 0.4))],
)
def test_intervals_cover_the_truth_19_times_of_20(items: int, samples: int, ease: tuple[float, float]) -> None:
    """2,000 sweeps of items of different ease: 93% to 97% of the intervals must hold the truth.

    Of accuracy, by either interval; and of the difference from a policy that solves a tenth of what the first does not.
    """
    rng = np.random.default_rng(items)
    chances = rng.beta(*ease, (items, SIMULATED))
    plain, better = (rng.binomial(samples, each).astype(float) for each in (chances, 0.1 + 0.9 * chances))
    graded = np.full((items, 1), float(samples))
    truth = ease[0] / sum(ease)
    covered = []
    for found in (estimates(plain, graded, seed=0), estimates(better, graded, seed=0)):
        covered += [holds([each.interval for each in found], truth), holds([each.bootstrap for each in found], truth)]
        truth = 0.1 + 0.9 * truth
    shares = resampled_shares(np.hstack([plain, better]), graded, seed=0)
    values = (better - plain).mean(axis=0) / samples
    differences = paired_differences(values, shares[:, SIMULATED:], shares[:, :SIMULATED], items)
    covered.append(holds([each.interval for each in differences], 0.1 * (1 - ease[0] / sum(ease))))
    assert all(0.93 <= share <= 0.97 for share in covered), covered


def holds(intervals: list[Interval], truth: float) -> float:
    """The share of intervals that hold the truth."""
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


@pytest.mark.parametrize("items", [30, 200])
def test_equal_policies_are_told_apart_no_more_often_than_they_say(items: int) -> None:
    rng = np.random.default_rng(items)
    chances = rng.random((items, SIMULATED))
    correct = np.hstack([rng.random((items, SIMULATED)) < chances for _ in range(2)]).astype(float)
    shares = resampled_shares(correct, np.ones((items, 1)), seed=0)
    values = correct.mean(axis=0)
    found = paired_differences(
        values[SIMULATED:] - values[:SIMULATED], shares[:, SIMULATED:], shares[:, :SIMULATED], items
    )
    rejected = np.array([each.p_value < 0.05 for each in found])
    excluded = np.array([each.interval.low > 0 or each.interval.high < 0 for each in found])
    assert 0.03 <= rejected.mean() <= 0.06
    assert (rejected == excluded).mean() > 0.995, "the p-value says what the interval does, but for a draw at its end"


def test_one_item_tells_nothing() -> None:
    shares = resampled_shares(np.array([[0.0, 1.0]]), np.ones((1, 2)), seed=0)
    assert middle(shares[:, 1], 1) == Interval(1, 1)
    assert difference_of(1, shares[:, 1], shares[:, 0], 1).p_value == 1
