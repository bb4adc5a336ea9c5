from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.evaluate.sweep.policies.beam import Beam
from jobs.evaluate.sweep.policies.dvts import Dvts
from jobs.evaluate.sweep.policies.rebase import Rebase, allocation
from jobs.evaluate.sweep.search import Node, as_bits, as_score
from jobs.evaluate.sweep.steps import Steps

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=64)
BALANCES = st.floats(1e-3, 1e3)


@given(SCORES, st.integers(0, 1024), BALANCES)
def test_rebase_spends_its_budget_exactly(scores: list[float], budget: int, balance: float) -> None:
    shares = allocation(scores, budget, balance)
    assert sum(shares) == budget
    assert all(share >= 0 for share in shares)


@given(SCORES, st.integers(0, 1024), BALANCES)
@example([0.0, 1.0, 1.0, 2.4e-11, 2.4e-11], 980, 1.0)
def test_no_node_of_rebase_gets_less_than_a_worse_one_or_far_from_its_share(
    scores: list[float], budget: int, balance: float
) -> None:
    shares = allocation(scores, budget, balance)
    ranked = sorted(range(len(scores)), key=lambda number: -scores[number])
    assert all(shares[one] >= shares[other] for one, other in pairwise(ranked))
    top = max(scores)
    weights = [math.exp((score - top) / balance) for score in scores]
    for share, weight in zip(shares, weights, strict=True):
        assert share < budget * weight / sum(weights) + 1 + 1e-6


@given(SCORES)
def test_rebase_at_any_heat_and_alike_scores_shares_evenly(scores: list[float]) -> None:
    assert set(allocation(scores, 3 * len(scores), math.inf)) == {3}
    assert set(allocation([0.5] * len(scores), 3 * len(scores), 0.1)) == {3}


def test_what_finished_takes_its_part_of_the_width_along() -> None:
    policy = Rebase(8, Steps(None, 4, 9), "weighted", 1, 0.1)
    level = [Node(("0",), 0.9, True), Node(("1",), 0.5, False), Node(("2",), 0.5, False), Node(("3",), 0.0, False)]
    assert policy.choose(level, 8) == ((0,), (0, 4, 3, 0))


def test_a_beam_spends_what_is_left_on_the_best() -> None:
    policy = Beam(10, Steps(None, 4, 9), "weighted", 1, 4)
    level = [Node((str(number),), score, number == 2) for number, score in enumerate([0.1, 0.7, 0.9, 0.4, 0.5, 0.6])]
    assert policy.choose(level, 10) == ((2,), (0, 4, 0, 0, 1, 4))


def test_trees_of_dvts_do_not_know_of_each_other() -> None:
    policy = Dvts(4, Steps(None, 4, 9), "weighted", 1, 2)
    level = [Node(("0",), 0.9, False), Node(("1",), 0.8, False), Node(("2",), 0.1, False), Node(("3",), 0.2, True)]
    assert policy.choose(level, 4) == ((3,), (2, 0, 0, 0))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_score_comes_back_from_its_bits(score: float) -> None:
    assert as_score(as_bits(score)) == score
    assert -(2**31) <= as_bits(score) < 2**31


def test_names_tell_searches_apart() -> None:
    steps = Steps(None, 4, 9)
    policies = [
        Rebase(4, steps, "weighted", 1, 0.1),
        Rebase(8, steps, "weighted", 1, 0.1),
        Rebase(8, steps, "weighted", 1, 0.2),
        Rebase(8, steps, "majority", 1, 0.1),
        Beam(8, steps, "weighted", 1, 4),
        Beam(8, steps, "weighted", 1, 2),
        Dvts(8, steps, "best", 1, 4),
        Dvts(8, steps, "best", 1, 2),
    ]
    names = [policy.name for policy in policies]
    assert len(set(names)) == len(names)
    assert names[:4] == ["REBASE 4", "REBASE 8", "REBASE at 0.2 8", "REBASE by majority 8"]


@pytest.mark.parametrize("width", [1, 3])
def test_a_level_of_nothing_but_leaves_ends_a_search(width: int) -> None:
    level = [Node((str(number),), 0.5, True) for number in range(width)]
    assert Rebase(width, Steps(None, 4, 9), "weighted", 1, 0.1).choose(level, width).children == (0,) * width
