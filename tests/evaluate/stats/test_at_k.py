"""Several samples of an item, from rows to scores with intervals: small votes by hand, coverage by simulation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from jobs.evaluate.grading.reader import meaning
from jobs.evaluate.stats.at_k import scores_at_k
from jobs.evaluate.stats.comparisons import scores
from jobs.evaluate.stats.curves import MeasuredCurve, drawn, measure
from jobs.evaluate.stats.intervals import Interval
from jobs.evaluate.stats.outcomes import Outcomes, read
from jobs.evaluate.stats.votes import USUAL, Vote, spelled
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from jobs.evaluate.sweep.policy import Policy

PASS, MAJORITY = Vote("pass"), Vote("majority")
AUTO, WAIT = Budget(), Extension(None, "Wait", 1)


def rows(item: str, answers: list[str], policy: Policy = AUTO) -> list[dict[str, object]]:
    """A row per answer, the correct one being 16. ``-`` is no answer, ``!`` one that could not be graded."""
    return [
        {
            "task": "letters",
            "item": item,
            "policy": policy.name,
            "verdict": {"16": "correct", "016": "correct", "-": "no_answer", "!": "error"}.get(answer, "wrong"),
            "thinking_tokens": 10 + number,
            "injected_tokens": policy.count,
            "answer_tokens": 3,
            "thinking_end": "natural",
            "answer_end": "stop",
            "extracted": None if answer in "-!" else answer,
            "meaning": None if answer in "-!" else meaning(answer),
            "rule": "none" if answer in "-!" else "answer",
        }
        for number, answer in enumerate(answers)
    ]


def write(tmp_path: Path, *of_items: list[dict[str, object]]) -> Path:
    frame = pd.DataFrame([row for each in of_items for row in each]).astype(
        {"extracted": "string", "meaning": "string"}
    )
    frame.to_parquet(tmp_path / "samples.parquet")
    return tmp_path / "samples.parquet"


def measured(
    tmp_path: Path, *of_items: list[dict[str, object]], policies: tuple[Policy, ...] = (AUTO,)
) -> dict[str, MeasuredCurve]:
    return {curve.name: curve for curve in measure(write(tmp_path, *of_items), policies)}


def test_one_curve_each_of_what_k_samples_pass_and_elect(tmp_path: Path) -> None:
    """Worked out by hand over the 4 triples and 6 pairs of each item."""
    curves = measured(
        tmp_path,
        rows("a", ["16", "016", "2", "3"]),  # pairs: 1 of 2 votes, 4 ties, 1 lost; triples: 2 won, 2 ties of three
        rows("b", ["16", "2", "2", "-"]),  # pairs: 1 won (blank), 2 ties, 3 lost; triples: 2 ties, 2 lost
    )
    assert list(curves) == ["budget", "pass@k", "majority@k"]
    passed, majority = curves["pass@k"], curves["majority@k"]
    assert [point.k for point in passed.points] == [1, 2, 4]
    assert [passed.label(point) for point in passed.points] == ["@1", "@2", "@4"]
    assert [point.name for point in majority.points] == ["auto majority@1", "auto majority@2", "auto majority@4"]
    assert [point.accuracy for point in passed.points] == pytest.approx([3 / 8, (5 / 6 + 3 / 6) / 2, 1])
    assert [point.accuracy for point in majority.points] == pytest.approx(
        [3 / 8, ((1 + 4 / 2) / 6 + (1 + 2 / 2) / 6) / 2, 1 / 2]
    )
    assert [point.thinking_tokens for point in passed.points] == [11.5, 23, 46]
    assert [point.answer_tokens for point in passed.points] == [3, 6, 12]
    (natural,) = curves["budget"].points
    assert [each.k for each in natural.at_k] == [1, 2, 3, 4]
    assert natural.at_k[2].by[MAJORITY].value == pytest.approx(((2 + 2 / 3) / 4 + (2 / 2) / 4) / 2)
    assert natural.at_k[2].by[PASS].value == pytest.approx((1 + 3 / 4) / 2)


def test_answers_of_one_meaning_are_one_answer(tmp_path: Path) -> None:
    """2, 02 and $2$ outvote two 16s; five words that are no number do not."""
    agreed = measured(tmp_path, rows("a", ["16", "16", "2", "02", "$2$"]))
    assert agreed["majority@k"].points[-1].accuracy == 0
    apart = measured(tmp_path, rows("a", ["16", "16", "two", "three", "2.5"]))
    assert apart["majority@k"].points[-1].accuracy == 1


def test_what_could_not_be_graded_was_not_drawn_and_what_was_not_answered_does_not_vote(tmp_path: Path) -> None:
    curves = measured(
        tmp_path, rows("a", ["16", "!", "!", "!"]), rows("b", ["-", "-", "-", "16"]), rows("c", ["-"] * 4)
    )
    first, second, _, fourth = curves["budget"].points[0].at_k
    assert (first.items, first.by[PASS].value) == (3, pytest.approx((1 + 1 / 4 + 0) / 3))
    assert (second.items, second.by[PASS].value) == (2, pytest.approx((1 / 2 + 0) / 2)), "one of a's cannot be two"
    assert (fourth.items, fourth.by[MAJORITY].value) == (2, 1 / 2)
    # Of a, three samples may have been wrong or right; c has none that was.
    assert second.by[PASS].range == Interval(pytest.approx((1 / 2 + 1 / 2) / 3), pytest.approx((1 + 1 / 2) / 3))
    assert (fourth.by[MAJORITY].range.low, fourth.by[MAJORITY].range.high) == pytest.approx((1 / 3, 2 / 3))
    assert fourth.by[MAJORITY].interval.low < 1 / 3
    assert fourth.by[MAJORITY].interval.high > 2 / 3


def test_where_nothing_was_graded_k_samples_have_no_score(tmp_path: Path) -> None:
    curves = measured(tmp_path, rows("a", ["!", "!"]), rows("b", ["!", "!"]))
    for name in ("pass@k", "majority@k"):
        assert all(math.isnan(point.accuracy) and point.items == 0 for point in curves[name].points)


def test_one_sample_has_no_such_curves_and_neither_has_a_sweep_without_the_natural_end(tmp_path: Path) -> None:
    assert list(measured(tmp_path, rows("a", ["16"]), rows("b", ["2"]))) == ["budget"]
    extended = measured(tmp_path, rows("a", ["16", "2"], WAIT), policies=(WAIT,))
    assert list(extended) == ["Wait"]
    assert [each.by[PASS].value for each in extended["Wait"].points[0].at_k] == [0.5, 1]


def test_an_extension_that_is_called_like_a_curve_is_in_quotes(tmp_path: Path) -> None:
    policies = (
        AUTO,
        *(Extension(None, string, 1) for string in ("pass@k", "majority@k", "budget", "nothing", "", "\n", "\\n")),
    )
    curves = measured(tmp_path, *(rows("a", ["16", "2"], policy) for policy in policies), policies=policies)
    assert list(curves) == [
        "budget",
        '"pass@k"',
        '"majority@k"',
        '"budget"',
        '"nothing"',
        "nothing",
        "\\n",
        "\\\\n",
        "pass@k",
        "majority@k",
    ]


def test_gains_are_over_one_natural_sample_and_rounding_is_none(tmp_path: Path) -> None:
    """When all answer, a tie of two votes is a coin's throw, so that majority@2 is accuracy, whatever sums round to."""
    rng = np.random.default_rng(0)
    items = [rows(f"{number}", list(rng.choice(["16", "2", "3"], 7))) for number in range(40)]
    curves = measured(tmp_path, *items)
    (natural,) = curves["budget"].points
    tied = natural.at_k[1].by[MAJORITY].difference
    assert tied is not None
    assert (tied.value, tied.p_value) == (pytest.approx(0, abs=1e-12), 1)
    gains = {point.k: point.difference for point in curves["pass@k"].points}
    assert gains[1] is not None
    assert (gains[1].value, gains[1].p_value) == (pytest.approx(0, abs=1e-12), 1)
    assert gains[7] is not None
    assert gains[7].value == pytest.approx(natural.at_k[6].by[PASS].value - natural.accuracy)
    assert gains[7].p_value < 0.001
    assert gains[7].interval.low > 0


def outcomes(correct: np.ndarray, wrong: np.ndarray) -> Outcomes:
    """Of samples that all could be graded and all answer."""
    samples, none = (correct + wrong.sum(axis=2)).astype(float), np.zeros(correct.shape)
    names = tuple(map(str, range(correct.shape[1])))
    items = tuple(map(str, range(len(correct))))
    return Outcomes(
        *("task", items, names, samples, correct.astype(float)),
        totals={"error": none, "no_answer": none},
        squares={},
        wrong=wrong,
        golds={},
    )


def test_intervals_cover_the_truth_19_times_of_20() -> None:
    """400 sweeps of 100 items of different ease, 5 samples each, that are right or agree on one wrong answer."""
    rng = np.random.default_rng(5)
    ease = rng.beta(1.2, 0.8, (100, 400))
    correct = rng.binomial(5, ease)
    found = scores_at_k(outcomes(correct, (5 - correct)[:, :, None]), spelled(USUAL, ()), None, None, seed=0)
    population = rng.beta(1.2, 0.8, 400_000)
    for k in range(2, 6):
        tie = 0.5 * binom.pmf(k // 2, k, population) if k % 2 == 0 else 0
        truths = {
            PASS: float((1 - (1 - population) ** k).mean()),
            MAJORITY: float((binom.sf(k // 2, k, population) + tie).mean()),
        }
        for vote, truth in truths.items():
            estimates = [policy[k - 1].by[vote] for policy in found]
            assert np.mean([estimate.value for estimate in estimates]) == pytest.approx(truth, abs=0.005), "unbiased"
            for kind in ("interval", "bootstrap"):
                intervals = [getattr(estimate, kind) for estimate in estimates]
                covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
                assert 0.92 <= covered <= 0.985, (vote, k, kind)


def test_how_many_policies_are_resampled_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    correct, wrong = rng.integers(0, 5, (6, 3)), rng.integers(0, 3, (6, 3, 2))
    task = outcomes(correct, wrong)
    reference = task.shares[[0]]
    at_k = scores_at_k(task, spelled(USUAL, ()), None, reference, seed=1)
    monkeypatch.setattr("jobs.evaluate.stats.at_k._SCORED_AT_ONCE", 1)
    apart = scores_at_k(task, spelled(USUAL, ()), None, reference, seed=1)
    for one, other in zip(at_k, apart, strict=True):
        assert [each.items for each in one] == [each.items for each in other]
        values = [[each.by[MAJORITY].bootstrap.low for each in policy] for policy in (one, other)]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


def test_the_k_that_are_asked_for_are_those_that_are_shown(tmp_path: Path) -> None:
    path = write(tmp_path, rows("a", ["16", "2", "16", "3", "16", "4"]), rows("b", ["16", "2", "2", "3", "16", "4"]))
    outcomes = read(path, ["auto"])
    curves = {curve.name: curve for curve in drawn(outcomes, [AUTO], at_k=(3, 1, 3, 6))}
    assert [point.k for point in curves["majority@k"].points] == [1, 3, 6]
    assert scores(outcomes[0], "auto", (3, 1)).points == ("auto", "auto majority@3")
