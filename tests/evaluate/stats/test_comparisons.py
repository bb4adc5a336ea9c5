"""Comparisons of points against scipy, worked examples, and simulated sweeps whose truth is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from jobs.evaluate.stats.comparisons import (
    Comparison,
    Scores,
    compare,
    corrected,
    detectable,
    differences,
    holm,
    scores,
)
from jobs.evaluate.stats.intervals import Shares
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from tests.evaluate.simulated import LETTERS, simulate
from tests.evaluate.stats.test_at_k import rows, write


def compared(right: np.ndarray, asked: np.ndarray | None = None) -> Comparison:
    """The second column against the first."""
    shares = Shares.certain(right, np.ones_like(right) if asked is None else asked)
    (found,) = differences("task", Scores(("before", "after"), shares), [(0, 1)])
    return found


def test_the_t_test_is_scipys() -> None:
    right = np.random.default_rng(0).binomial(8, 0.5, (30, 2)).astype(float)
    expected = ttest_rel(right[:, 1], right[:, 0])
    found = compared(right, np.full((30, 2), 8.0))
    assert found.t_p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.difference.value == pytest.approx((right[:, 1] - right[:, 0]).mean() / 8)
    width = np.diff(expected.confidence_interval())[0] / 8
    interval = found.difference.interval
    assert width < interval.high - interval.low < 1.4 * width, "30 items need not show all that there is"


def test_items_are_counted_by_what_became_of_them() -> None:
    right = np.array([[1, 1], [0, 1], [0, 1], [1, 0], [0, 0], [0, 1]], dtype=float)
    asked = np.ones((6, 2))
    asked[5, 0] = 0  # was not graded: neither better nor worse
    found = compared(right, asked)
    assert (found.items, found.better, found.worse) == (6, 2, 1)
    assert found.difference.value == pytest.approx(4 / 6 - 2 / 5)


def test_points_alike_do_not_differ_and_say_nothing_of_what_could_be_detected() -> None:
    found = compared(np.repeat([[1.0], [0.0], [1.0]], 2, axis=1))
    assert (found.t_p_value, found.difference.p_value, found.better, found.worse) == (1, 1, 0, 0)
    assert math.isnan(found.detectable)


def test_where_every_item_changes_alike_the_sign_test_speaks() -> None:
    found = compared(np.repeat([[0.0, 1.0]], 10, axis=0))
    assert found.t_p_value == pytest.approx(2 * 0.5**10)


def test_one_item_is_no_sample() -> None:
    found = compared(np.array([[0.0, 1.0]]))
    assert math.isnan(found.t_p_value)
    assert math.isnan(found.detectable)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_none = holm(np.array([0.01, math.nan, 0.6]))
    assert with_none[[0, 2]] == pytest.approx([0.02, 0.6])
    assert math.isnan(with_none[1])
    assert corrected([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_keeps_the_order_lies_between_p_and_bonferroni_and_rejects_what_its_steps_do(p: list[float]) -> None:
    given_p = np.array(p)
    adjusted = holm(given_p)
    assert (adjusted >= given_p).all()
    assert (adjusted <= np.minimum(given_p * len(p), 1) + 1e-15).all()
    order = np.argsort(given_p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    rejected = 0
    while rejected < len(p) and given_p[order[rejected]] * (len(p) - rejected) <= 0.05:
        rejected += 1
    assert (adjusted <= 0.05).sum() == rejected


def test_a_detectable_difference_is_found_four_times_of_five() -> None:
    """2,000 sweeps of 100 items, on a tenth of which the second point fails and on three tenths it gains."""
    rng = np.random.default_rng(3)
    change = rng.choice([-1.0, 0.0, 1.0], p=[0.10, 0.65, 0.25], size=(2000, 100))
    error = change.std(axis=1, ddof=1) / 10
    assert detectable(float(error.mean()), 100) == pytest.approx(2.83 * 0.0572, rel=0.01)
    # The same spread around the difference that it could just detect: found with the power that it is named for.
    shift = detectable(float(error.mean()), 100) - 0.15
    found = np.abs((change + shift).mean(axis=1) / error) > 1.984
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_all_pairs_of_points_are_compared_with_the_natural_end_as_the_reference(tmp_path: Path) -> None:
    simulate().to_parquet(tmp_path / "samples.parquet")
    found = compare(read(tmp_path / "samples.parquet"), "auto")
    names = [policy.name for policy in LETTERS]
    assert len(found) == math.comb(len(names), 2)
    assert len({frozenset((each.policy, each.reference)) for each in found}) == len(found)
    natural = {each.policy: each for each in found if each.reference == "auto"}
    assert set(natural) == set(names) - {"auto"}
    assert natural['1x"Wait"'].difference.value == pytest.approx(0.955 - 0.47)
    assert natural['1x"Wait"'].p_holm < 1e-6
    assert natural["32"].p_holm == natural["32"].difference.p_value == 1
    assert all(each.p_holm >= each.t_p_value for each in found)


def test_voting_is_compared_with_thinking_for_longer_and_passing_is_not(tmp_path: Path) -> None:
    wait = Extension(None, "Wait", 1)
    path = write(
        tmp_path,
        *(rows(f"{n}", ["16", "16", "2", "3"]) + rows(f"{n}", ["16", "2", "-", "!"], wait) for n in range(3)),
    )
    (task,) = read(path)
    points = scores(task, "auto")
    assert points.points == ("auto", '1x"Wait"', "auto majority@2", "auto majority@4")
    assert points.shares.graded.means == pytest.approx([1 / 2, 1 / 3, 1 / 2, 1])
    assert len(compare([task], "auto")) == 6


def test_a_sweep_without_the_natural_end_is_compared_too(tmp_path: Path) -> None:
    shape = {Budget(4): (0.2, 4.0), Budget(8): (0.5, 8.0)}
    simulate(shape, items=40, samples=2).to_parquet(tmp_path / "samples.parquet")
    (found,) = compare(read(tmp_path / "samples.parquet"), "auto")
    assert (found.policy, found.reference) == ("8", "4")


def test_many_comparisons_of_equal_policies_on_few_items_find_nothing_19_times_of_20() -> None:
    """300 sweeps of 8 equal policies on 30 items: at most 1 in 20 may have any comparison below 5% after correction."""
    rng = np.random.default_rng(2)
    pairs = [(first, second) for second in range(8) for first in range(second)]
    false = 0
    for _ in range(300):
        ease = rng.beta(0.6, 0.6, (30, 1))
        right = (rng.random((30, 8)) < ease).astype(float)
        points = Scores(tuple("abcdefgh"), Shares.certain(right, np.ones_like(right)))
        found = corrected(list(differences("task", points, pairs)))
        false += min(each.p_holm for each in found) < 0.05
    assert false / 300 <= 0.05
