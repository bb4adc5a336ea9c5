"""Score intervals against Wilson's and Tango's, the likelihood that they are derived from, and simulated sweeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import gammaln, xlogy
from scipy.stats import binom

from jobs.evaluate.stats.bounded import Floats, critical, lower_limits, p_value, upper_limits, zero_statistics
from jobs.evaluate.stats.intervals import Difference, Interval, Shares, intervals, paired_differences, wilson

Z = 1.959963984540054


def limits(values: list[float] | Floats, low: float, high: float, z: float = Z) -> tuple[float, float]:
    column = np.array(values, dtype=float)[:, None]
    items = np.array([float(len(column))])
    return float(lower_limits(column, items, low, z)[0]), float(upper_limits(column, items, high, z)[0])


def tango(better: int, worse: int, items: int) -> tuple[float, float]:
    """As published (Tango 1998, equations 4 to 6): the score with the variance of the restricted likelihood."""

    def score(difference: float) -> float:
        b = -better - worse + (2 * items - better + worse) * difference
        root = math.sqrt(max(b * b + 8 * items * worse * difference * (1 - difference), 0.0))
        restricted = (root - b) / (4 * items)
        variance = items * (2 * restricted + difference * (1 - difference))
        return (better - worse - items * difference) / math.sqrt(max(variance, 1e-300))

    middle = (better - worse) / items
    return (
        brentq(lambda d: score(d) - Z, -1 + 1e-12, middle - 1e-12, xtol=1e-12),
        brentq(lambda d: score(d) + Z, middle + 1e-12, 1 - 1e-12, xtol=1e-12),
    )


@pytest.mark.parametrize(("right", "items"), [(0, 30), (1, 30), (15, 30), (30, 30), (191, 200)])
def test_with_one_sample_an_item_shares_have_wilsons_interval(right: int, items: int) -> None:
    expected = wilson(right / items, items)
    found = limits([1.0] * right + [0.0] * (items - right), 0, 1)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("better", "worse", "items"), [(1, 0, 30), (5, 2, 30), (0, 3, 100), (12, 12, 50), (9, 0, 500)])
def test_with_one_sample_an_item_differences_have_tangos_interval(better: int, worse: int, items: int) -> None:
    values = [1.0] * better + [-1.0] * worse + [0.0] * (items - better - worse)
    assert limits(values, -1, 1) == pytest.approx(tango(better, worse, items), abs=1e-7)


def test_no_discordant_pair_leaves_room_for_what_thirty_items_need_not_show() -> None:
    assert limits([0.0] * 30, -1, 1) == pytest.approx((-Z * Z / (30 + Z * Z), Z * Z / (30 + Z * Z)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-8, 8), min_size=2, max_size=40))
def test_limits_are_where_the_score_with_the_likeliest_distributions_variance_is_z(eighths: list[int]) -> None:
    """The weights of empirical likelihood at the limit, found without it: they are a distribution, have that mean, and
    their variance makes the score z."""
    values = np.array(eighths) / 8
    _, limit = limits(values, -1, 1)
    mean, items = values.mean(), len(values)
    if limit - mean < 1e-9:
        return

    def tilted(c: float) -> float:
        return c - 1 / float(np.mean(1 / (c - values)))

    furthest = 1.0 if values.max() == 1 else tilted(1.0)  # by tilting what was observed; beyond it lies mass on 1
    c = 1.0 if limit >= furthest else brentq(lambda c: tilted(c) - limit, 1 + 1e-12, 1e9, xtol=1e-14)
    weights = (c - limit) / (items * (c - values))
    missing = 1 - weights.sum()
    assert missing >= -1e-5
    assert weights @ values + missing == pytest.approx(limit, abs=1e-5)
    variance = weights @ (values - limit) ** 2 + missing * (1 - limit) ** 2
    assert items * (limit - mean) ** 2 == pytest.approx(Z * Z * variance, rel=1e-3)


def test_the_test_of_no_difference_is_mcnemars_and_agrees_with_the_interval() -> None:
    values = np.array([[1.0] * 9 + [-1.0] * 2 + [0.0] * 39]).T
    items = np.array([50.0])
    assert zero_statistics(values, items, 1.0) ** 2 == pytest.approx([49 / 11])
    rng = np.random.default_rng(0)
    many = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], (40, 400), p=[0.05, 0.1, 0.55, 0.15, 0.15])
    counts = np.full(400, 40.0)
    chances = p_value(zero_statistics(many, counts, 1.0), counts)
    z = critical(40)
    excludes = (lower_limits(many, counts, -1.0, z) > 0) | (upper_limits(many, counts, 1.0, z) < 0)
    assert (excludes == (chances < 0.05)).all()
    assert 50 < excludes.sum() < 350


def difference(first: Floats, second: Floats) -> list[Difference]:
    ones = np.ones_like(first)
    return paired_differences(Shares.certain(second, ones), Shares.certain(first, ones))


def test_equal_and_rounded_scores_differ_by_nothing_that_is_known() -> None:
    first = np.repeat([[0.3], [1.0], [0.0]], 10, axis=0)
    (found,) = difference(first, first + 1e-16)
    assert (found.value, found.p_value) == (pytest.approx(0, abs=1e-12), 1)
    assert found.interval.low == pytest.approx(-found.interval.high)
    assert 0.1 < found.interval.high < 0.15


def test_one_item_tells_nothing() -> None:
    (found,) = difference(np.zeros((1, 1)), np.ones((1, 1)))
    assert (found.interval, found.p_value) == (Interval(-1, 1), 1)
    low, high = intervals(Shares.certain(np.ones((1, 1)), np.ones((1, 1))))
    assert (low, high) == (0, 1)


@pytest.mark.parametrize("items", [30, 100, 500])
def test_who_solves_all_that_another_does_and_a_little_more_is_covered(items: int) -> None:
    """Exactly, at every true difference from 0 to 10 points: the only thing random is how many items are gained."""
    gains = np.arange(items // 2)
    before, after = np.zeros((items, len(gains))), (np.arange(items)[:, None] < gains).astype(float)
    found = difference(before, after)
    low, high = (np.array([getattr(each.interval, end) for each in found]) for end in ("low", "high"))
    assert (high > low).all()
    for truth in np.linspace(0, 0.1, 41):
        held = (low <= truth) & (truth <= high)
        assert binom.pmf(gains[held], items, truth).sum() >= 0.935, truth


@pytest.mark.seconds
@pytest.mark.parametrize(("items", "most", "losses"), [(30, 30, 0.4), (100, 100, 0.4), (500, 110, 0.02)])
def test_who_gains_on_some_items_and_loses_on_others_is_covered(items: int, most: int, losses: float) -> None:
    """Exactly, with one sample an item, at true differences from 0 to 10 points and so many losses at the most."""
    better, worse = np.array([(b, c) for b in range(most + 1) for c in range(most + 1 - b)]).T
    places = np.arange(items)[:, None]
    found = difference((places < worse).astype(float), (places >= items - better).astype(float))
    low, high = (np.array([getattr(each.interval, end) for each in found]) for end in ("low", "high"))
    equal = items - better - worse
    ways = gammaln(items + 1) - gammaln(better + 1) - gammaln(worse + 1) - gammaln(equal + 1)
    for truth in (0.0, 0.005, 0.01, 0.015, 0.02, 0.05, 0.1):
        for lost in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4):
            if lost <= losses:
                chances = xlogy(better, lost + truth) + xlogy(worse, lost) + xlogy(equal, 1 - truth - 2 * lost)
                held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
                chance = np.exp(ways + chances)
                assert chance.sum() > 0.999
                assert chance[held].sum() >= 0.94, (truth, lost)


@pytest.mark.parametrize("items", [2, 5, 30, 60, 100, 500])
def test_shares_of_one_sample_an_item_are_covered_wherever_they_are(items: int) -> None:
    """Exactly. Wilson's own interval covers 0.84 at half a percent of 30 items."""
    counts = np.arange(items + 1)
    right = (np.arange(items)[:, None] < counts).astype(float)
    low, high = intervals(Shares.certain(right, np.ones_like(right)))
    assert (low[0], high[-1]) == (0, 1)
    for truth in np.linspace(0.001, 0.999, 333):
        assert binom.pmf(counts[(low <= truth) & (truth <= high)], items, truth).sum() >= 0.93, truth


@pytest.mark.parametrize("samples", [1, 4, 16, 64])
@pytest.mark.parametrize(("items", "mean", "alike"), [(30, 0.03, 1.0), (30, 0.95, 0.3), (100, 0.98, 1.0)])
def test_points_near_the_ends_are_covered_with_mixed_difficulty(
    samples: int, items: int, mean: float, alike: float
) -> None:
    rng = np.random.default_rng(samples)
    chances = rng.beta(mean * alike, (1 - mean) * alike, (items, 1500))
    low, high = intervals(Shares.certain(rng.binomial(samples, chances).astype(float), np.full((items, 1500), samples)))
    covered = ((low <= mean) & (mean <= high)).mean()
    assert covered >= 0.935
    assert (high - low).mean() < 0.19


@pytest.mark.parametrize("samples", [2, 16, 64])
@pytest.mark.parametrize("gain", [0.01, 0.05])
def test_a_few_items_gained_are_covered_with_any_number_of_samples(samples: int, gain: float) -> None:
    """Half of 30 items are never solved and some are now always, by samples that the policies share or do not: a third
    and more of bootstrap intervals missed the truth."""
    rng = np.random.default_rng(samples)
    shape = (30, 1000)
    chances = np.where(rng.random(shape) < 0.5, 0.0, rng.beta(0.3, 0.3, shape))
    flipped = rng.random(shape) < gain
    before = rng.binomial(samples, np.where(flipped, 0.0, chances)) / samples
    again = rng.binomial(samples, np.where(flipped, 0.0, chances)) / samples
    for now in (before, again):
        found = difference(before, np.where(flipped, 1.0, now))
        assert np.mean([each.interval.low <= gain <= each.interval.high for each in found]) >= 0.94


@pytest.mark.parametrize("items", [30, 200])
def test_equal_policies_are_told_apart_no_more_often_than_they_say(items: int) -> None:
    rng = np.random.default_rng(items)
    chances = rng.random((items, 2000))
    first, second = ((rng.random((items, 2000)) < chances).astype(float) for _ in range(2))
    rejected = np.mean([each.p_value < 0.05 for each in difference(first, second)])
    assert 0.02 <= rejected <= 0.06


def test_where_there_is_much_to_see_intervals_are_as_wide_as_a_t_tests() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((500, 50)), rng.random((500, 50))
    found = difference(first, second)
    width = np.mean([each.interval.high - each.interval.low for each in found])
    expected = 2 * 1.965 * (second - first).std(axis=0, ddof=1).mean() / math.sqrt(500)
    assert width == pytest.approx(expected, rel=0.03)
