"""The frontier for a page or a slide: one PNG, accuracy against tokens, the options by what they have in common.

A colour for each kind of option: single samples, each vote, each search; lines join what differs in one number alone.
Grey rings are bounds. The frontier is the line that steps up, its points are named and have their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from jobs.evaluate.figures.captions import Captions
from jobs.evaluate.figures.frontier_tables import sentence
from jobs.evaluate.figures.plots import COLOURS, INK, LOG_FROM, MARKERS, STYLE
from jobs.evaluate.stats.frontier import Frontier, Priced
from jobs.evaluate.sweep.policies.budgets import Budget

_FAINT = "#777777"
_BOUND = "#9AA0A6"
_WIDTH, _HEIGHT = 9.6, 5.6
_LEGEND = 2.35
"""Inches beside the axes."""


def write_png(drawn: Sequence[tuple[str, Sequence[Frontier]]], path: Path) -> None:
    """One panel for each of `drawn`, a title and its frontiers, of which the first is shown: that over tokens."""
    with matplotlib.rc_context(STYLE):
        height = _HEIGHT * len(drawn)
        figure = Figure(figsize=(_WIDTH, height), dpi=200)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=0.75 / _WIDTH,
            right=1 - _LEGEND / _WIDTH,
            bottom=0.62 / height,
            top=1 - 1.05 / height,
            hspace=1.7 / (_HEIGHT - 1.7),
        )
        for axes, (title, frontiers) in zip(panels, drawn, strict=True):
            _draw(figure, axes, title, frontiers[0])
        figure.savefig(path, metadata={"Software": None})


def kind(priced: Priced) -> str:
    """What an option has in common with others of its colour."""
    option = priced.option
    if option.vote is not None:
        return f"{option.vote.kind} by {option.vote.score}" if option.vote.score else option.vote.kind
    return option.policy.method if option.policy.elects else "one sample"


def _draw(figure: Figure, axes: Axes, title: str, frontier: Frontier) -> None:
    everything = (*frontier.options, *frontier.bounds)
    costs = [each.cost for each in everything]
    if costs and min(costs) > 0 and max(costs) / min(costs) >= LOG_FROM:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    scored = any(each.option.policy.elects for each in frontier.options)
    axes.set_xlabel(
        f"tokens of a question{', all samples and the scorer' if scored else ', all samples'}"
        f"{' (log scale)' if axes.get_xscale() == 'log' else ''}"
    )
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.04)
    axes.grid(True, which="major")
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    kinds = list(dict.fromkeys(map(kind, frontier.options)))
    for number, name in enumerate(kinds):
        shade, marker = COLOURS[(number + (number > 0)) % len(COLOURS)], MARKERS[number % len(MARKERS)]
        of_kind = [each for each in frontier.options if kind(each) == name]
        for line in _lines(of_kind):
            x, y = [each.cost for each in line], [each.accuracy for each in line]
            axes.plot(x, y, color=shade, linewidth=1, alpha=0.35, zorder=3)
        x, y = [each.cost for each in of_kind], [each.accuracy for each in of_kind]
        axes.plot(x, y, marker, color=shade, markersize=5.5, markeredgewidth=0, alpha=0.8, label=name, zorder=4)
    if frontier.bounds:
        rings: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": _BOUND, "markersize": 5.5, "zorder": 2.5}
        x, y = [each.cost for each in frontier.bounds], [each.accuracy for each in frontier.bounds]
        axes.plot(x, y, "o", label="whoever knows\nthe answer", **rings)
    axes.margins(x=0.06)
    _draw_frontier(figure, axes, frontier, max(costs, default=0.0))
    if everything:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9.5, handletextpad=0.6)
    text = "\n".join(wrap(sentence(frontier), 140, max_lines=3, placeholder=" …"))
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(
        f"{title}: what is worth its tokens", (0, 1), (-40, 62), fontsize=15, fontweight="bold", va="top", **above
    )
    axes.annotate(text, (0, 1), (-40, 40), fontsize=9, color=_FAINT, va="top", linespacing=1.4, **above)


def _short(priced: Priced) -> str:
    """``cut at 8``, ``REBASE 4``, ``auto majority@8``."""
    option = priced.option
    alone = option.vote is None and not option.policy.elects and isinstance(option.policy, Budget)
    return option.words.removeprefix("1 sample ") if alone else option.name


def _lines(options: Sequence[Priced]) -> list[list[Priced]]:
    """Options that differ in the samples alone, or in a search's width, in their order."""
    by_line: dict[tuple[str, str], list[Priced]] = {}
    for each in options:
        option = each.option
        if option.vote is not None:
            by_line.setdefault((option.policy.name, option.vote.key), []).append(each)
        elif option.policy.elects:
            by_line.setdefault((option.policy.method, ""), []).append(each)
    return [sorted(line, key=lambda each: each.cost) for line in by_line.values()]


def _draw_frontier(figure: Figure, axes: Axes, frontier: Frontier, last: float) -> None:
    points = frontier.points
    if not points:
        return
    shade = COLOURS[1]
    x, y = [each.cost for each in points], [each.accuracy for each in points]
    axes.step(
        [*x, max(last, x[-1])], [*y, y[-1]], where="post", color=shade, linewidth=2.2, label="the frontier", zorder=5
    )
    arms = [[max(0.0, each.accuracy - each.interval.low) for each in points]]
    arms.append([max(0.0, each.interval.high - each.accuracy) for each in points])
    axes.errorbar(x, y, arms, fmt="none", ecolor=shade, elinewidth=1.2, alpha=0.6, zorder=5)
    axes.plot(x, y, "D", color=shade, markersize=8, markeredgecolor="white", markeredgewidth=1.2, zorder=6)
    captions = Captions(figure, axes)
    for each in (*frontier.options, *frontier.bounds):
        if math.isfinite(each.accuracy):
            captions.keep_off(each.cost, each.accuracy, 6)
    for (here, low), (there, high) in pairwise([*zip(x, y, strict=True), (max(last, x[-1]), y[-1])]):
        captions.keep_off_line((here, low), (there, low))
        captions.keep_off_line((there, low), (there, high))
    around = ((8, -11), (8, -20), (-8, 11), (-8, 20), (8, 12), (0, 20), (0, -22), (-8, -12), (10, -30), (-10, 30))
    for each in points:
        captions.write(each.cost, each.accuracy, _short(each), INK, around, size=9.5)
