"""pass@k and majority@k against the enumeration of every subset, closed forms, and simulated items of known ease."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from jobs.evaluate.config import MOST_SAMPLES
from jobs.evaluate.stats.subsets import majority_at, pass_at

ANSWERS = st.lists(st.sampled_from(["right", "blank", "a", "b", "c", "d"]), min_size=1, max_size=9)


def cell(answers: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correct, blank and wrong votes of one cell."""
    votes = Counter(answers)
    wrong = [count for answer, count in votes.items() if answer not in ("right", "blank")]
    return np.array([votes["right"]]), np.array([votes["blank"]]), np.array([wrong], dtype=np.int64)


def elected(answers: tuple[str, ...]) -> Fraction:
    """The share of the vote's outcome that is the correct answer's."""
    votes = Counter(answer for answer in answers if answer != "blank")
    leaders = [answer for answer, count in votes.items() if count == max(votes.values())]
    return Fraction("right" in leaders, max(1, len(leaders)))


@settings(max_examples=150)
@given(ANSWERS)
def test_both_are_the_average_over_every_subset(answers: list[str]) -> None:
    correct, blank, wrong = cell(answers)
    passed = pass_at(correct, np.array([len(answers)]), len(answers))[0]
    majority = majority_at(correct, blank, wrong, len(answers))[0]
    for k in range(1, len(answers) + 1):
        subsets = list(combinations(answers, k))
        assert passed[k - 1] == pytest.approx(sum("right" in subset for subset in subsets) / len(subsets), abs=1e-12)
        assert majority[k - 1] == pytest.approx(float(sum(map(elected, subsets)) / len(subsets)), abs=1e-12)


@given(ANSWERS, st.lists(ANSWERS, max_size=4))
def test_a_cell_is_worth_the_same_in_any_company(answers: list[str], others: list[list[str]]) -> None:
    cells = [cell(each) for each in (answers, *others)]
    width = max(wrong.shape[1] for _, _, wrong in cells)
    correct, blank = (np.concatenate([each[part] for each in cells]) for part in (0, 1))
    wrong = np.concatenate([np.pad(wrong, ((0, 0), (0, width - wrong.shape[1]))) for _, _, wrong in cells])
    together = majority_at(correct, blank, wrong, 9)[0]
    np.testing.assert_allclose(together, majority_at(*cells[0], 9)[0], rtol=1e-12)
    assert np.isnan(together[len(answers) :]).all(), "more than there are cannot be taken"
    assert np.isfinite(together[: len(answers)]).all()


def test_how_much_is_counted_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    correct, blank, wrong = rng.integers(0, 8, 50), rng.integers(0, 3, 50), rng.integers(0, 6, (50, 5))
    whole = majority_at(correct, blank, wrong, 16)
    monkeypatch.setattr("jobs.evaluate.stats.subsets._NUMBERS_AT_ONCE", 1)
    np.testing.assert_allclose(majority_at(correct, blank, wrong, 16), whole, rtol=1e-12)


def test_a_small_vote_by_hand() -> None:
    """Three samples: right, right, wrong. Two of them agree in one pair of three, and tie in the other two."""
    assert majority_at(np.array([2]), np.array([0]), np.array([[1]]), 3)[0] == pytest.approx([2 / 3, 2 / 3, 1])
    assert pass_at(np.array([2]), np.array([3]), 3)[0] == pytest.approx([2 / 3, 1, 1])


def test_blank_samples_do_not_vote_and_an_election_without_votes_is_lost() -> None:
    assert majority_at(np.array([0]), np.array([4]), np.zeros((1, 0), np.int64), 4)[0].tolist() == [0, 0, 0, 0]
    one_voice = majority_at(np.array([1]), np.array([3]), np.zeros((1, 0), np.int64), 4)[0]
    assert one_voice == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1]), "it wins whenever it is taken"


def test_a_tie_of_all_is_a_fair_lottery() -> None:
    assert majority_at(np.array([1]), np.array([0]), np.ones((1, 63), np.int64), 64)[0] == pytest.approx([1 / 64] * 64)


def test_two_answers_are_a_hypergeometric_draw() -> None:
    """Of 64 samples 40 are right and 24 agree on something else, at every k."""
    k = np.arange(1, 65)
    expected = hypergeom.sf(k // 2, 64, 40, k) + np.where(k % 2 == 0, 0.5 * hypergeom.pmf(k // 2, 64, 40, k), 0)
    found = majority_at(np.array([40]), np.array([0]), np.array([[24]]), 64)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_one_sample_alone_is_accuracy_and_chances_stay_chances() -> None:
    rng = np.random.default_rng(3)
    correct, blank, wrong = rng.integers(0, 30, 200), rng.integers(0, 9, 200), rng.integers(0, 12, (200, 4))
    graded = correct + blank + wrong.sum(axis=1)
    correct, blank, wrong, graded = (each[graded > 0] for each in (correct, blank, wrong, graded))
    passed, majority = pass_at(correct, graded, 64), majority_at(correct, blank, wrong, 64)
    np.testing.assert_allclose(passed[:, 0], correct / graded, atol=1e-15)
    np.testing.assert_allclose(majority[:, 0], correct / graded, rtol=1e-12)
    there = ~np.isnan(passed)
    assert (majority[there] <= passed[there] + 1e-12).all(), "who wins was there"
    assert (np.diff(passed, axis=1)[there[:, 1:]] >= -1e-15).all()


def test_as_many_samples_as_are_allowed_do_not_overflow() -> None:
    half = MOST_SAMPLES // 2
    passed = pass_at(np.array([1]), np.array([MOST_SAMPLES]), MOST_SAMPLES)[0]
    np.testing.assert_allclose(passed, np.arange(1, MOST_SAMPLES + 1) / MOST_SAMPLES, rtol=1e-10)
    majority = majority_at(np.array([half]), np.array([0]), np.array([[half]]), MOST_SAMPLES)[0]
    np.testing.assert_allclose(majority, 0.5, rtol=1e-9)


def test_both_are_unbiased_estimates_of_what_fresh_samples_would_do() -> None:
    """Items of ease p that are right or agree on one wrong answer: 20,000 of them, 8 samples each."""
    ease = np.random.default_rng(1).beta(2, 2, 20_000)
    correct = np.random.default_rng(2).binomial(8, ease)
    passed = pass_at(correct, np.full(20_000, 8), 8).mean(axis=0)
    majority = majority_at(correct, np.zeros(20_000, np.int64), (8 - correct)[:, None], 8).mean(axis=0)
    for k in range(1, 9):
        tie = 0.5 * binom.pmf(k // 2, k, ease) if k % 2 == 0 else 0
        assert passed[k - 1] == pytest.approx((1 - (1 - ease) ** k).mean(), abs=0.01)
        assert majority[k - 1] == pytest.approx((binom.sf(k // 2, k, ease) + tie).mean(), abs=0.01)
