"""The best of several runs, whole curves at once, the same items again, and tokens: simulated, so truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.evaluate.stats.bands import band
from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.choice import best_interval, held_out
from jobs.evaluate.stats.intervals import Interval, Shares, Sums, intervals, mean_intervals
from jobs.evaluate.stats.same_items import share_intervals, token_intervals

SWEEPS = 150


def certain(right: Floats, samples: int = 1) -> Shares:
    return Shares.certain(right, np.full(right.shape, float(samples)))


@pytest.mark.seconds
@pytest.mark.parametrize("runs", [5, 12])
def test_the_best_of_equal_runs_is_worth_no_more_than_any(runs: int) -> None:
    """30 items each: the largest accuracy is 7 points and more too large; held out, it is not."""
    rng = np.random.default_rng(runs)
    chances = rng.random((SWEEPS, 30, 1))
    sweeps = [certain(each) for each in (rng.random((SWEEPS, 30, runs)) < chances).astype(float)]
    largest = np.mean([shares.graded.means.max() for shares in sweeps])
    estimates = [held_out(shares.graded, seed=0) for shares in sweeps]
    assert largest > 0.56
    assert np.mean(estimates) == pytest.approx(0.5, abs=0.025)
    found = [best_interval(shares, seed=0) for shares in sweeps]
    assert np.mean([each.low <= 0.5 <= each.high for each in found]) >= 0.95
    assert np.mean([each.high - each.low for each in found]) < 0.5


def test_a_run_that_is_better_by_far_is_chosen_on_any_half() -> None:
    right = np.zeros((40, 3))
    right[:36, 1], right[:10, 0] = 1, 1
    assert held_out(certain(right).graded, seed=0) == pytest.approx(0.9, abs=1e-9)
    found = best_interval(certain(right), seed=0)
    (low,), (high,) = intervals(certain(right)[[1]])
    assert found.low < low < 0.9 < high == found.high


def test_one_item_has_no_halves_and_what_was_not_graded_no_best() -> None:
    assert math.isnan(held_out(certain(np.ones((1, 2))).graded, seed=0))
    none = Shares.certain(np.zeros((4, 2)), np.zeros((4, 2)))
    assert math.isnan(best_interval(none, seed=0).low)
    assert math.isnan(held_out(none.graded, seed=0))


@pytest.mark.seconds
def test_a_band_holds_all_of_its_curve_where_its_intervals_do_not() -> None:
    rng = np.random.default_rng(3)
    levels = np.array([0.02, 0.1, 0.3, 0.5, 0.7, 0.8])
    right = (rng.random((300, 60, 6)) < levels).astype(float)
    whole, each = [], []
    for sweep in right:
        shares = certain(sweep)
        low, high = intervals(shares)
        each.append(((low <= levels) & (levels <= high)).all())
        found = band(shares, seed=0)
        whole.append(all(own.low <= level <= own.high for own, level in zip(found, levels, strict=True)))
        assert all(own.low <= start for own, start in zip(found, low, strict=True))
    assert np.mean(each) < 0.9
    assert np.mean(whole) >= 0.93


def test_a_band_of_one_point_is_its_interval_and_equal_points_are_one() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((50, 1)) < 0.4).astype(float)
    (low,), (high,) = intervals(certain(right))
    (one,) = band(certain(right), seed=0)
    assert (one.low, one.high) == pytest.approx((low, high), abs=0.003)
    same = band(certain(np.repeat(right, 4, axis=1)), seed=0)
    assert (same[3].low, same[3].high) == pytest.approx((low, high), abs=0.003)


@pytest.mark.parametrize(("items", "samples"), [(30, 2), (30, 16), (100, 64)])
def test_these_items_sampled_again_are_covered(items: int, samples: int) -> None:
    rng = np.random.default_rng(samples)
    chances = np.where(rng.random((items, 1)) < 0.5, rng.random((items, 1)), 1.0)
    right = rng.binomial(samples, chances, (items, 1000)).astype(float)
    shares = certain(right, samples)
    found = [each for each in share_intervals(shares) if each is not None]
    truth = chances.mean()
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.94
    low, high = intervals(shares)
    assert np.mean([each.high - each.low for each in found]) < (high - low).mean()


def test_samples_that_all_agree_leave_room_and_one_sample_tells_nothing_of_the_next() -> None:
    agreed = certain(np.repeat([[4.0], [0.0]], 15, axis=0), samples=4)
    (found,) = share_intervals(agreed)
    assert found is not None
    assert found.high - 0.5 == pytest.approx(3.95 / 120, rel=0.02)
    assert share_intervals(certain(np.ones((5, 1)))) == [None]
    assert token_intervals(np.ones((5, 1)), np.ones((5, 1)), np.ones((5, 1))) == [None]


@pytest.mark.parametrize(("items", "budget"), [(30, math.inf), (30, 500.0), (100, math.inf)])
def test_mean_tokens_are_covered_for_other_items(items: int, budget: float) -> None:
    """Skewed lengths, as they are or cut at a budget, which nearly all of them reach."""
    rng = np.random.default_rng(items)
    lengths = np.minimum(np.exp(rng.normal(7, 0.8, (items, 4000))), budget)
    truth = float(np.minimum(np.exp(rng.normal(7, 0.8, 4_000_000)), budget).mean())
    found = mean_intervals(Sums(lengths, np.ones_like(lengths)), 0, [budget] * 4000)
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.935
    assert all(each.high <= budget for each in found)


def test_tokens_that_all_stopped_at_the_budget_may_not_always_do_and_never_exceed_it() -> None:
    (found,) = mean_intervals(Sums(np.full((30, 1), 512.0), np.ones((30, 1))), 0, [512.0])
    assert found.high == 512
    assert 430 < found.low < 470
    (alone,) = mean_intervals(Sums(np.full((1, 1), 512.0), np.ones((1, 1))), 0, [math.inf])
    assert math.isnan(alone.low)


def test_tokens_of_these_items_sampled_again_have_the_spread_within_items() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.normal(100, 10, (16, 40, 500)) + 1000 * rng.random((1, 40, 1))
    truth = lengths.mean(axis=(0, 2)).mean()
    sums, squares = lengths.sum(axis=0), (lengths**2).sum(axis=0)
    found = token_intervals(sums, squares, np.full((40, 500), 16.0))
    held = [each.low <= truth <= each.high for each in found if isinstance(each, Interval)]
    assert 0.92 <= np.mean(held) <= 0.98
    assert len(held) == 500
