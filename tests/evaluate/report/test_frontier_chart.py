"""The picture of a frontier: options where they cost, and a line that only steps up at what is on it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.report.charts import NARROW, WIDTHS
from jobs.evaluate.report.frontier_chart import frontier_chart
from jobs.evaluate.report.listings import frontier_listing


def option(cost: float, accuracy: float, on: bool = False) -> dict[str, Any]:
    return {
        "name": f"auto majority@{cost:g}",
        "words": f"{cost:g} samples",
        "cost": cost,
        "cost_low": 0.8 * cost,
        "cost_high": 1.3 * cost,
        "accuracy": accuracy,
        "accuracy_low": max(0.0, accuracy - 0.1),
        "accuracy_high": min(1.0, accuracy + 0.1),
        "on_frontier": on,
        **({"held_out": accuracy} if on else {}),
    }


OPTIONS = st.lists(st.tuples(st.floats(0, 40_000), st.floats(0, 1), st.booleans()), max_size=9).map(
    lambda drawn: [option(*each) for each in sorted(drawn)]
)


def record(options: list[dict[str, Any]], bounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cost": "tokens", "options": options, "bounds": bounds, "sentence": ""}


@given(OPTIONS, OPTIONS, st.sampled_from(WIDTHS))
def test_every_option_lies_within_the_axes(
    options: list[dict[str, Any]], bounds: list[dict[str, Any]], width: int
) -> None:
    drawn = frontier_chart(record(options, bounds), width)
    assert sum(len(line.marks) for line in drawn.lines) == len(options) + len(bounds)
    for line in drawn.lines:
        for mark in line.marks:
            assert drawn.left <= mark.x <= drawn.right
            assert drawn.top <= mark.y <= drawn.bottom
    assert len(drawn.labels) == (0 if width < NARROW else sum(each["on_frontier"] for each in options))


def test_the_line_keeps_its_height_until_the_next_option_on_it_and_to_the_right_edge() -> None:
    first, second = (
        option(10, 0.4, on=True),
        option(30, 0.8, on=True) | {"gain": 0.4, "gain_low": 0.3, "gain_high": 0.5},
    )
    drawn = frontier_chart(record([first, option(20, 0.3), second], [option(40, 0.9)]), 1040)
    line = drawn.lines[-1]
    assert [each.name for each in drawn.lines] == ["options", "whoever knows the answer", "the frontier"]
    start, end = line.marks
    places = [tuple(map(float, each.split())) for each in line.path.removeprefix("M").split("L")]
    assert places == [(start.x, start.y), (end.x, start.y), (end.x, end.y), (drawn.right, end.y)]
    assert "+40.0 points over the one before (+30.0 … +50.0)" in end.tip
    listing = frontier_listing(record([first, option(20, 0.3), second], []))
    assert [row[0] for row in listing.rows] == ["10 samples", "30 samples"]
    assert listing.rows[1][-1] == "40.0 (30.0 … 50.0)"
