"""Control, Scaling and Performance: the paper's own table from its published points, small cases by hand, a sweep."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.planning.lengths import TOKENS_PER_STEP
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.stats.s1_metrics import Method, control, measure_methods, scaling, scaling_published
from jobs.evaluate.sweep.curves import methods
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.conditional import conditional
from jobs.evaluate.sweep.policies.extensions import Extension, grid
from jobs.evaluate.sweep.policies.rejection import RejectionSampling
from jobs.evaluate.sweep.policies.step_budgets import StepBudget
from jobs.evaluate.sweep.policy import Policy, Wish
from tests.evaluate.simulated import Shape, simulate

LIMITS = (1024, 2048, 4096, 8192, 16384)
STEPS = (16, 32, 64, 128, 256)
PUBLISHED = {
    # Mean thinking tokens, correct answers of AIME24's 30, what each run was asked for; Control, Scaling, Performance.
    "token-conditional": ((7939, 7158, 8263, 7108, 7500), (8, 9, 10, 10, 12), LIMITS, (40, -24, 40.0)),
    "token-conditional + budget forcing": ((1024, 2048, 4031, 5664, 6330), (1, 9, 10, 10, 12), LIMITS, (100, 13, 40.0)),
    "step-conditional": (
        (7252, 6277, 5396, 5552, 7551),
        (10, 7, 10, 11, 10),
        [TOKENS_PER_STEP * steps for steps in STEPS],
        (60, 3, 36.7),
    ),
    # Read off the scaling figure, of which the table does not say what its five runs are: its last five.
    "budget forcing": ((2000, 3933, 5300, 6656, 7320), (9, 13, 15, 16, 17), [math.inf] * 5, (100, 15, 56.7)),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_published_table_comes_out_of_the_published_points(method: str) -> None:
    tokens, correct, limits, expected = PUBLISHED[method]
    runs, accuracies = np.array(tokens, dtype=float), np.array(correct) / 30
    found = (
        round(100 * float(control(runs, np.zeros(5), np.array(limits, dtype=float)))),
        round(float(scaling_published(runs, accuracies))),
        round(100 * float(accuracies.max()), 1),
    )
    assert found == expected


def test_the_definition_counts_tokens_and_shares_and_gives_other_values_than_were_printed() -> None:
    tokens, correct, _, _ = PUBLISHED["token-conditional + budget forcing"]
    runs, accuracies = np.array(tokens, dtype=float), np.array(correct) / 30
    pairs = list(combinations(zip(tokens, accuracies, strict=True), 2))
    by_hand = sum((g - f) / (b - a) for (a, f), (b, g) in pairs) / len(pairs)
    assert float(scaling(runs, accuracies)) == pytest.approx(by_hand)
    assert 1e5 * by_hand == pytest.approx(6.7, abs=0.1), "points per 1,000 tokens"


RUNS = st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1)), min_size=1, max_size=7)


@given(RUNS, st.randoms(use_true_random=False))
def test_scaling_does_not_depend_on_the_order_of_runs_and_has_the_sign_of_a_monotone_method(
    runs: list[tuple[int, float]], order: object
) -> None:
    shuffled = list(runs)
    order.shuffle(shuffled)
    for of in (scaling, scaling_published):
        one, other = (float(of(*np.array(each, dtype=float).T)) for each in (runs, shuffled))
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True)
        rising = [sorted(tokens for tokens, _ in runs)], [sorted(accuracy for _, accuracy in runs)]
        slope = of(*(np.array(each, dtype=float)[0] for each in rising))
        assert math.isnan(slope) or slope >= 0


def test_runs_of_equal_tokens_have_no_slope_and_runs_without_thinking_no_doublings() -> None:
    assert math.isnan(scaling(np.array([5.0, 5.0]), np.array([0.1, 0.9])))
    assert scaling(np.array([5.0, 5.0, 6.0]), np.array([0.1, 0.3, 0.4])) == pytest.approx(0.2)
    assert scaling_published(np.array([0.0, 4.0, 8.0]), np.array([0.0, 0.1, 0.3])) == pytest.approx(20)
    assert math.isnan(scaling_published(np.array([0.0, 4.0]), np.array([0.0, 0.1])))


def test_control_is_unknown_where_nothing_says_what_a_run_should_keep_to() -> None:
    assert math.isnan(control(np.array([5.0]), np.array([0.0]), np.array([math.nan])))
    assert control(np.array([5.0, 9.0]), np.zeros(2), np.array([5.0, 8.0])) == 0.5


def methods_of(tmp_path: Path, shape: Shape) -> tuple[Method, ...]:
    simulate(shape, items=40).to_parquet(tmp_path / "samples.parquet")
    policies = list(shape)
    outcomes = read(tmp_path / "samples.parquet", [policy.name for policy in policies])
    return measure_methods(outcomes, policies, seed=0)


def measured(tmp_path: Path, shape: Shape) -> dict[str, tuple[float, float, float]]:
    found = methods_of(tmp_path, shape)
    assert all(each.performance.interval.low <= each.performance.value for each in found)
    return {each.name: (each.control.value, each.scaling_published.value, each.performance.value) for each in found}


def test_a_sweep_has_each_method_and_the_budgets_with_each_string(tmp_path: Path) -> None:
    shape = {
        Budget(8): (0.1, 8.0),
        Budget(16): (0.3, 16.0),
        Budget(): (0.5, 32.0),
        Extension(None, "Wait", 1): (0.6, 64.0),
        Extension(16, "Hmm", 1): (0.2, 16.0),
    }
    assert [curve.name for curve in methods(list(shape))] == ["budget", "Wait", "Hmm in 16", "budget + Wait"]
    found = measured(tmp_path, shape)
    assert found["budget"] == pytest.approx((1, 20, 0.5))
    assert found["budget + Wait"] == pytest.approx((1, (20 + 20 + 20 + 15 + 50 / 3 + 10) / 6, 0.6))


def test_control_of_every_method_is_by_what_its_runs_were_asked_for(tmp_path: Path) -> None:
    tokens = conditional([Wish("token", 10), Wish("token", 20)], budget_forcing=True)
    steps = conditional([Wish("step", 1), Wish("step", 2)], budget_forcing=False)
    words = conditional([Wish("class", "short"), Wish("class", "long")], budget_forcing=False)
    lengths: dict[Policy, float] = {
        **dict(zip(tokens, (15.0, 15.0, 10.0, 15.0), strict=True)),
        **dict(zip(steps, (TOKENS_PER_STEP + 1.0, TOKENS_PER_STEP + 2.0), strict=True)),
        **dict(zip(words, (31.0, 29.0), strict=True)),
        RejectionSampling(5, 1): 9.0,
        RejectionSampling(50, 1): 9.0,
        StepBudget(1): 50.0,
        StepBudget(2): 150.0,
        Baseline(): 30.0,
    }
    shape = {policy: (0.5, length) for policy, length in lengths.items()}
    found = {name: values[0] for name, values in measured(tmp_path, shape).items()}
    assert found == {
        "token-conditional": 0.5,
        "token-conditional + budget forcing": 1.0,
        "step-conditional": 0.5,
        "class-conditional": 0.0,
        "rejection sampling": 0.5,
        "step budget": 1.0,
    }


def test_without_the_usual_length_control_of_classes_is_unknown(tmp_path: Path) -> None:
    words = conditional([Wish("class", "short"), Wish("class", "long")], budget_forcing=False)
    found = measured(tmp_path, dict(zip(words, ((0.5, 10.0), (0.6, 20.0)), strict=True)))
    assert math.isnan(found["class-conditional"][0])
    assert found["class-conditional"][1] == pytest.approx(10)


@pytest.mark.parametrize(("accuracy", "certain"), [(0.0, True), (1.0, True), (0.5, False)])
def test_scaling_has_no_interval_of_no_width(tmp_path: Path, accuracy: float, certain: bool) -> None:
    shape = {Budget(8): (accuracy, 8.0), Budget(16): (accuracy if certain else 0.9, 16.0)}
    (method,) = methods_of(tmp_path, shape)
    for scaling_of in (method.scaling, method.scaling_published):
        assert (scaling_of.value == 0) == certain
        assert math.isnan(scaling_of.interval.low) == math.isnan(scaling_of.interval.high) == certain
        assert certain or scaling_of.interval.low < scaling_of.value < scaling_of.interval.high


def test_a_method_of_one_run_is_none() -> None:
    assert list(methods(grid([None]))) == []
