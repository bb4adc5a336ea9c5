"""Plots: that they are there, say what the curves say, need no network, and take whatever a sweep can be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from jobs.evaluate.figures.interactive import write_html
from jobs.evaluate.figures.plots import COLOURS, logarithmic, write_png, x_title
from jobs.evaluate.stats.curves import MeasuredCurve, measure
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from tests.evaluate.simulated import LETTERS, Shape, simulate


def curves_of(tmp_path: Path, shape: Shape, *tasks: str) -> tuple[MeasuredCurve, ...]:
    frames = [simulate(shape, items=20, task=task) for task in tasks or ("letters",)]
    pd.concat(frames).to_parquet(tmp_path / "samples.parquet")
    return measure(tmp_path / "samples.parquet", list(shape))


@pytest.mark.seconds
def test_the_picture_shows_each_curve_in_its_colour(tmp_path: Path) -> None:
    write_png(curves_of(tmp_path, LETTERS), "A title", "and what it is about", tmp_path / "plot.png")
    pixels = imread(tmp_path / "plot.png")[:, :, :3].reshape(-1, 3)
    assert len(pixels) == 1800 * 1080
    counts = []
    for own in COLOURS[:6]:
        wanted = np.array([int(own[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        counts.append(int((np.abs(pixels - wanted).max(axis=1) < 0.01).sum()))
    assert min(counts[:5]) > 500, "a curve is not there"
    assert counts[5] < 20, "there are five curves, so the sixth colour is not used"


def test_the_same_curves_give_the_same_bytes(tmp_path: Path) -> None:
    curves = curves_of(tmp_path, LETTERS)
    for name in ("one", "two"):
        write_png(curves, "t", "s", tmp_path / f"{name}.png")
        write_html(curves, "t", "s", tmp_path / f"{name}.html")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_the_page_has_every_point_and_loads_nothing(tmp_path: Path) -> None:
    write_html(curves_of(tmp_path, LETTERS), "A <b>title</b>", "s", tmp_path / "plot.html")
    page = (tmp_path / "plot.html").read_text()
    assert "<title>A &lt;b&gt;title&lt;/b&gt;</title>" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    call = page[page.index("Plotly.newPlot(") :]
    traces, _ = json.JSONDecoder().raw_decode(call[call.index("[") :])
    assert [trace["name"] for trace in traces] == ["budget", "Wait", "Hmm", "Alternatively", "nothing"]
    assert traces[1]["x"] == [13.0, 34.0, 55.0, 92.0]
    assert traces[1]["y"] == pytest.approx([0.45, 0.95, 0.9, 0.55], abs=0.051)
    assert "points over the natural end" in traces[1]["hovertext"][1]


@pytest.mark.seconds
@pytest.mark.parametrize(
    "shape",
    [
        {Budget(): (0.5, 10)},
        {Budget(8): (0.0, 0), Budget(): (1.0, 0)},
        {Extension(None, "$x_{", 1): (0.5, 10), Extension(None, "<b>", 2): (0.5, 3e6)},
        {Budget(budget): (0.5, 1 + budget / 2) for budget in range(1, 40)},
        {Extension(None, f"word {number}", count): (0.5, 10 * count) for number in range(12) for count in (1, 2)},
    ],
    ids=["one point", "no thinking", "markup", "many budgets", "many strings"],
)
def test_any_sweep_can_be_drawn(tmp_path: Path, shape: Shape) -> None:
    curves = curves_of(tmp_path, shape)
    write_png(curves, "$t", "s", tmp_path / "plot.png")
    write_html(curves, "t", "s", tmp_path / "plot.html")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_what_was_not_graded_can_be_drawn(tmp_path: Path) -> None:
    samples = simulate({Budget(8): (0.5, 8), Budget(): (0.5, 30)}, items=4)
    samples.loc[samples["policy"] == "auto", "verdict"] = "error"
    samples.to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", [Budget(8), Budget()])
    write_png(curves, "t", "s", tmp_path / "plot.png")
    write_html(curves, "t", "s", tmp_path / "plot.html")


def test_tasks_stand_side_by_side(tmp_path: Path) -> None:
    write_png(curves_of(tmp_path, LETTERS, "one", "two", "three"), "t", "s", tmp_path / "plot.png")
    height, width, _ = imread(tmp_path / "plot.png").shape
    assert width > 3 * height


def test_samples_taken_together_are_dashed_lines_over_all_their_tokens(tmp_path: Path) -> None:
    simulate(LETTERS, items=20, samples=4).to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", list(LETTERS))
    assert x_title(curves) == "mean thinking tokens (of all k samples), log scale"
    assert x_title(curves[:-2]) == "mean thinking tokens, log scale"
    write_png(curves, "t", "s", tmp_path / "plot.png")
    pixels = imread(tmp_path / "plot.png")[:, :, :3].reshape(-1, 3)
    for own in COLOURS[5:7]:
        wanted = np.array([int(own[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(axis=1) < 0.01).sum() > 500
    write_html(curves, "t", "s", tmp_path / "plot.html")
    page = (tmp_path / "plot.html").read_text()
    call = page[page.index("Plotly.newPlot(") :]
    traces, _ = json.JSONDecoder().raw_decode(call[call.index("[") :])
    assert [trace["name"] for trace in traces if "dash" in trace["line"]] == ["pass@k", "majority@k"]
    assert traces[-1]["x"] == [13.0, 26.0, 52.0]
    assert "majority@4" in traces[-1]["hovertext"][2]


def test_tokens_are_on_a_log_scale_when_they_span_enough(tmp_path: Path) -> None:
    assert logarithmic(curves_of(tmp_path, LETTERS))
    assert not logarithmic(curves_of(tmp_path, {Budget(8): (0.1, 10), Budget(): (0.5, 30)}))
    assert not logarithmic(curves_of(tmp_path, {Budget(8): (0.1, 0), Budget(): (0.5, 30)}))


def test_intervals_go_both_ways_and_the_page_offers_the_other_questions(tmp_path: Path) -> None:
    """Bars across for tokens, buttons for what the bars say, and a capped range where samples could not be graded."""
    samples = simulate({Budget(8): (0.4, 8), Budget(): (0.5, 30)}, items=20, samples=4)
    samples["thinking_tokens"] += samples["sample"]
    samples.loc[samples.index[:6], "verdict"] = "error"
    samples.to_parquet(tmp_path / "samples.parquet")
    curves = measure(tmp_path / "samples.parquet", [Budget(8), Budget()])
    write_png(curves, "t", "s", tmp_path / "plot.png")
    write_html(curves, "t", "s", tmp_path / "plot.html")
    page = (tmp_path / "plot.html").read_text()
    call = page[page.index("Plotly.newPlot(") :]
    traces, _ = json.JSONDecoder().raw_decode(call[call.index("[") :])
    budget = traces[0]
    for arms, point in zip(budget["error_x"]["array"], curves[0].points, strict=True):
        assert arms == pytest.approx(point.thinking_spread.new_items.high - point.thinking_tokens)
    for question in ("other items of this kind", "these items, sampled again", "other items, whole curves at once"):
        assert question in page
    assert traces[-1]["error_y"]["width"] == 5
    assert "Capped bars: samples that could not be graded" in page
    write_html(curves_of(tmp_path, LETTERS), "t", "s", tmp_path / "sound.html")
    assert "Capped bars" not in (tmp_path / "sound.html").read_text()
    assert "with those not graded wrong … right" in budget["hovertext"][0].replace("\\u2026", "…")
