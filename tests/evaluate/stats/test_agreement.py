"""Our values beside published ones: the interval against Newcombe's own example, and what is called agreement."""

from __future__ import annotations

import math

import pytest

from jobs.evaluate.published import Published
from jobs.evaluate.stats.agreement import Beside, lay_beside, newcombe
from jobs.evaluate.stats.intervals import Interval, wilson
from jobs.evaluate.stats.s1_metrics import Measured, Method


def test_the_interval_is_that_of_newcombes_example() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, method 10)."""
    found = newcombe(56 / 70, wilson(56 / 70, 70), 48 / 80, wilson(48 / 80, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-3, 4, "within noise"), (0, 4, "within noise"), (1, 4, "higher"), (-4, -1, "lower"), (math.nan, 1, "unknown")],
)
def test_what_differs_by_more_than_noise_is_named(low: float, high: float, verdict: str) -> None:
    assert Beside("aime24", "auto", "accuracy", 50, 50, Interval(low, high)).verdict == verdict


def test_a_published_metric_is_taken_to_be_as_uncertain_as_ours() -> None:
    unknown = Measured(math.nan, Interval(math.nan, math.nan))
    method = Method(
        *("aime24", "token-conditional", ("token-conditional 1024",)),
        control=Measured(0.4, Interval(0.4, 0.4)),
        scaling=unknown,
        scaling_published=Measured(-20, Interval(-50, 10)),
        performance=unknown,
        performance_held_out=math.nan,
    )
    values = {"control": 40, "scaling": -64, "performance": 40}
    published = Published.model_validate({"source": "-", "methods": {"aime24": {"token-conditional": values}}})
    control, scaling, performance = lay_beside(published, {}, [method])
    assert (control.verdict, control.difference) == ("within noise", Interval(0, 0))
    assert scaling.verdict == "higher"
    assert scaling.difference.low == pytest.approx(44 - 30 * math.sqrt(2))
    assert performance.verdict == "unknown"


def test_values_that_the_sweep_has_nothing_for_are_left_out() -> None:
    values = {"source": "-", "accuracy": {"aime24": {"auto": 50}}, "methods": {"aime24": {"budget": {"control": 40}}}}
    assert lay_beside(Published.model_validate(values), {}, []) == ()
