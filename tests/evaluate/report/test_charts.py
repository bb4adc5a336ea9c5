"""Charts: whatever a sweep measured, its points, intervals and names lie where they belong."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.report.charts import NARROW, WIDTHS, chart
from jobs.evaluate.report.results import PlottedCurve, count, points_of_100

SHARE = st.floats(0, 1)
TOKENS = st.one_of(st.just(0.0), st.floats(0.5, 40_000))


def point(label: str, tokens: float, accuracy: float | None, times: int = 0) -> dict[str, Any]:
    share = 0.0 if accuracy is None else accuracy
    return {
        "policy": label,
        "label": label,
        "count": times,
        "thinking_tokens": tokens,
        "thinking_tokens_low": 0.8 * tokens,
        "thinking_tokens_high": 1.3 * tokens,
        "injected_tokens": 0.0,
        "accuracy": accuracy,
        "accuracy_low": max(0.0, share - 0.1),
        "accuracy_high": min(1.0, share + 0.1),
        "difference": None,
    }


CURVES = st.lists(
    st.lists(st.tuples(TOKENS, st.one_of(st.none(), SHARE)), min_size=1, max_size=6), min_size=1, max_size=9
).map(
    lambda lines: [
        PlottedCurve(
            "task", f"curve {number}", [point(str(at), *each, times=number and at) for at, each in enumerate(line)]
        )
        for number, line in enumerate(lines)
    ]
)


@given(CURVES, st.sampled_from(WIDTHS))
def test_points_and_intervals_lie_within_the_axes(curves: list[PlottedCurve], width: int) -> None:
    drawn = chart(curves, width)
    for line, curve in zip(drawn.lines, curves, strict=True):
        assert len(line.marks) == sum(each["accuracy"] is not None for each in curve.points)
        for mark in line.marks:
            assert drawn.left <= mark.x <= drawn.right
            bars = mark.bars["new"]
            assert drawn.top <= bars.top <= mark.y <= bars.bottom <= drawn.bottom
            assert drawn.left <= bars.left <= mark.x <= bars.right <= drawn.right
    for tick in drawn.x_ticks:
        assert drawn.left - 0.1 <= tick.at <= drawn.right + 0.1
    assert len(drawn.x_ticks) <= 12


def test_a_chart_answers_the_questions_that_its_points_answer_and_shows_what_was_not_graded() -> None:
    """A budget's band for each question; a capped bar from all wrong to all right."""
    own = [point("4", 4, 0.2), point("8", 8, 0.5)]
    asked = [each | {"accuracy_same_items_low": 0.1, "accuracy_same_items_high": 0.6} for each in own]
    asked[1] |= {"accuracy_least": 0.4, "accuracy_most": 0.7, "error_share": 0.3}
    assert chart([PlottedCurve("task", "budget", own)], 1040).questions == ("new",)
    drawn = chart([PlottedCurve("task", "budget", asked)], 1040)
    assert drawn.questions == ("new", "same")
    assert set(drawn.lines[0].bands) == {"new", "same"}
    plain, doubtful = drawn.lines[0].marks
    assert plain.range is None
    assert doubtful.range is not None
    assert doubtful.range[0] < doubtful.y < doubtful.range[1]
    assert "40.0% – 70.0% if wrong … right" in doubtful.tip


@pytest.mark.seconds
@given(CURVES)
def test_names_in_the_margin_do_not_overlap(curves: list[PlottedCurve]) -> None:
    drawn = chart(curves, WIDTHS[0])
    for above, below in pairwise(drawn.names):
        assert below.y - above.y >= 15
    assert all(name.x > drawn.right for name in drawn.names)


@given(st.lists(st.tuples(TOKENS, SHARE), min_size=2, max_size=20))
def test_rules_that_crowd_are_left_to_the_table_rather_than_written_over_each_other(
    places: list[tuple[float, float]],
) -> None:
    rules = [
        PlottedCurve("task", f"a rule, number {number}", [{**point("3", *place), "replayed": True}])
        for number, place in enumerate(places)
    ]
    labels = chart(rules, WIDTHS[0]).labels
    assert labels
    widths = [6.6 * len(label.text) + 2 for label in labels]
    left = [
        label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
        for label, width in zip(labels, widths, strict=True)
    ]
    for one, other in combinations(range(len(labels)), 2):
        beside = left[one] + widths[one] <= left[other] + 0.1 or left[other] + widths[other] <= left[one] + 0.1
        assert beside or abs(labels[one].y - labels[other].y) >= 13.9


def test_a_phones_chart_leaves_names_to_the_legend() -> None:
    curves = [PlottedCurve("task", "budget", [point("4", 4, 0.2), point("auto", 400, 0.5)])]
    assert min(WIDTHS) < NARROW
    assert not chart(curves, min(WIDTHS)).names
    assert [label.text for label in chart(curves, max(WIDTHS)).labels] == ["4", "auto"]


def test_lengths_that_span_enough_are_on_a_logarithmic_axis() -> None:
    near = chart([PlottedCurve("task", "budget", [point("4", 4, 0.2), point("8", 8, 0.5)])], 1040)
    far = chart([PlottedCurve("task", "budget", [point("4", 4, 0.2), point("auto", 400, 0.5)])], 1040)
    assert [tick.text for tick in far.x_ticks] == ["4", "8", "16", "32", "64", "128", "256"]
    assert near.x_ticks[0].text == "0"
    assert "log scale" in far.x_title
    assert "log scale" not in near.x_title


def test_numbers_are_written_for_people() -> None:
    assert (count(178479), count(15.84), count(16.0)) == ("178,479", "15.8", "16")
    assert (points_of_100(0.475), points_of_100(-0.05), points_of_100(None)) == ("+47.5", "−5.0", "–")
