"""Points and curves from ledgers small enough to work out by hand, and from as many as a large sweep has."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from jobs.evaluate.stats.curves import MeasuredCurve, measure
from jobs.evaluate.stats.intervals import Interval, wilson
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from jobs.evaluate.sweep.policy import Policy
from tests.evaluate.simulated import LETTERS, simulate

AUTO, SHORT, WAIT = Budget(), Budget(8), Extension(None, "Wait", 1)


def sample(item: str, policy: Policy, verdict: str, thinking: int, **other: object) -> dict[str, object]:
    row = {
        "task": "letters",
        "item": item,
        "policy": policy.name,
        "verdict": verdict,
        "thinking_tokens": thinking,
        "injected_tokens": policy.count,
        "answer_tokens": 3,
        "thinking_end": "natural",
        "answer_end": "stop",
        "extracted": "16" if verdict == "correct" else "2",
        "rule": "answer",
    }
    return row | other


HAND_MADE = [
    sample("a", SHORT, "wrong", 8, thinking_end="forced"),
    sample("b", SHORT, "no_answer", 8, thinking_end="forced", answer_tokens=0),
    sample("c", SHORT, "correct", 5),
    sample("d", SHORT, "error", 8, thinking_end="forced", answer_end="length", answer_tokens=9),
    sample("a", AUTO, "correct", 10),
    sample("b", AUTO, "wrong", 20),
    sample("c", AUTO, "correct", 5),
    sample("d", AUTO, "wrong", 13),
    sample("a", WAIT, "correct", 20),
    sample("b", WAIT, "correct", 40),
    sample("c", WAIT, "correct", 10),
    sample("d", WAIT, "wrong", 100, thinking_end="context"),
]


def measured(tmp_path: Path, rows: list[dict[str, object]], *policies: Policy) -> tuple[MeasuredCurve, ...]:
    path = tmp_path / "samples.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return measure(path, policies)


def test_points_are_what_their_ledgers_add_up_to(tmp_path: Path) -> None:
    budget, wait = measured(tmp_path, HAND_MADE, SHORT, AUTO, WAIT)
    assert (budget.name, wait.name) == ("budget", "Wait")
    short, auto = budget.points
    assert [budget.label(point) for point in budget.points] == ["8", "auto"]
    assert [wait.label(point) for point in wait.points] == ["0×", "1×"]
    assert wait.points[0] is auto

    assert (short.items, short.samples) == (4, 4)
    assert short.accuracy == pytest.approx(1 / 3), "an error is not a wrong answer, no answer is"
    assert (short.forced, short.no_answer, short.error, short.truncated) == (0.75, 0.25, 0.25, 0.25)
    assert short.thinking_tokens == 29 / 4
    assert short.answer_tokens == 15 / 4
    assert short.range == Interval(1 / 4, 2 / 4), "the error may have been wrong, or right"
    assert short.interval.low <= wilson(1 / 4, 4).low
    assert short.interval.high >= wilson(2 / 4, 4).high
    assert auto.range is None

    assert auto.accuracy == 0.5
    assert auto.thinking_tokens == 12
    assert auto.difference is None

    extended = wait.points[1]
    assert (extended.accuracy, extended.context, extended.injected_tokens) == (0.75, 0.25, 1)
    assert extended.difference is not None
    assert extended.difference.value == 0.25
    assert extended.difference.interval.low < 0 < extended.difference.interval.high, "one item of four changed"


def test_the_order_in_which_samples_were_written_changes_nothing(tmp_path: Path) -> None:
    forwards = measured(tmp_path, HAND_MADE, SHORT, AUTO, WAIT)
    assert measured(tmp_path, HAND_MADE[::-1], SHORT, AUTO, WAIT) == forwards


def test_without_the_natural_end_nothing_is_compared_with_it(tmp_path: Path) -> None:
    rows = [row for row in HAND_MADE if row["policy"] != "auto"]
    budget, wait = measured(tmp_path, rows, SHORT, WAIT)
    assert [point.difference for point in (*budget.points, *wait.points)] == [None, None]
    assert [wait.label(point) for point in wait.points] == ["1×"]


def test_a_policy_of_which_nothing_could_be_graded_has_no_accuracy(tmp_path: Path) -> None:
    rows = [sample(item, policy, "error", 5) for item in "ab" for policy in (SHORT, AUTO)]
    (budget,) = measured(tmp_path, rows, SHORT, AUTO)
    for point in budget.points:
        assert math.isnan(point.accuracy)
        assert math.isnan(point.interval.low)
        assert point.error == 1


def test_tasks_are_apart(tmp_path: Path) -> None:
    rows = [row | {"task": task} for task in ("one", "two") for row in HAND_MADE]
    rows = [row | ({"verdict": "correct"} if row["task"] == "two" else {}) for row in rows]
    curves = measured(tmp_path, rows, SHORT, AUTO, WAIT)
    assert [(curve.task, curve.name) for curve in curves] == [
        ("one", "budget"),
        ("one", "Wait"),
        ("two", "budget"),
        ("two", "Wait"),
    ]
    assert {point.accuracy for curve in curves[2:] for point in curve.points} == {1.0}


def test_names_are_one_line_whatever_was_injected(tmp_path: Path) -> None:
    policy = Extension(None, "Wait,\nonce more", 1)
    (curve,) = measured(tmp_path, [sample("a", policy, "correct", 5)], policy)
    assert curve.name == "Wait,\\nonce more"


def test_several_samples_of_an_item_are_not_several_items(tmp_path: Path) -> None:
    rows = [sample(item, AUTO, verdict, 5) for item, verdict in [("a", "correct"), ("b", "wrong")] for _ in range(50)]
    (point,) = measured(tmp_path, rows, AUTO)[0].points
    assert (point.items, point.samples) == (2, 100)
    assert point.interval.low < wilson(0.5, 2).low
    assert point.interval.high > wilson(0.5, 2).high
    assert point.same_items is not None
    assert (point.same_items.low, point.same_items.high) == pytest.approx((0.46, 0.54), abs=0.005)


def test_every_sample_of_many_counts_and_so_do_all_together(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    simulate(items=400, samples=15).to_parquet(path)
    curves = measure(path, list(LETTERS))
    assert [len(curve.points) for curve in curves[-2:]] == [5, 5], "1, 2, 4, 8 and all 15 samples together"
    assert {point.samples for curve in curves for point in curve.points} == {400 * 15}
    curves = curves[:-2]
    by_policy = {point.policy: point.accuracy for curve in curves for point in curve.points}
    for policy, (accuracy, _) in LETTERS.items():
        assert by_policy[policy] == pytest.approx(accuracy, abs=1e-4)
