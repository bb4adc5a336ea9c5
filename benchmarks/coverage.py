"""What 95% intervals are worth: how many hold the truth in simulated sweeps, and how wide they are.

    python benchmarks/coverage.py [--sweeps 2000] [--cells FILE]

Sweeps are drawn from populations of items whose truth is known: easy, hard and mixed ones, policies that solve all that
another does and a little more, that gain on some items and lose on others, whose samples are the same as the other's
or not. The least of many coverages is low by chance alone: of 48 populations that are all covered by 0.95, the least of
300 sweeps each comes out at 0.92. So those that are covered least are drawn anew, ten times as often. The table has,
for each number of items and of samples, the population that is covered least then; the file has them all. Beside them
is what the bootstrap over items gives, as the s1 paper has it. Nothing is timed. With --cells a run that was stopped
continues.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jobs.evaluate.stats.bands import band
from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.choice import best_interval, held_out
from jobs.evaluate.stats.intervals import (
    Interval,
    Shares,
    Sums,
    intervals,
    mean_intervals,
    paired_differences,
    percentile_intervals,
    resampled_shares,
)
from jobs.evaluate.stats.same_items import share_intervals

ITEMS = (30, 100, 500)
SAMPLES = (1, 2, 4, 16, 64)
GAINS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
BOOTSTRAPPED = 200
"""Sweeps that are bootstrapped too: its coverage is seen from few."""
DRAWS = 1000
AGAIN = 3
"""Populations that are drawn anew, :data:`MORE` times as often: those that were covered least."""
MORE = 10

Rng = np.random.Generator
Draw = Callable[[Rng, tuple[int, int]], Floats]
Only = frozenset[str] | None
"""The populations that are looked at; None: all of them."""
Quantity = Callable[..., Iterator["Cell"]]


@dataclass(frozen=True)
class Cell:
    """One population, and so many items and samples."""

    quantity: str
    population: str
    items: int
    samples: int
    truth: float
    covered: float
    width: float
    bootstrap_covered: float
    bootstrap_width: float
    anew: bool = field(default=False, kw_only=True)
    """Whether it was drawn anew, because it was among those covered least."""


def beta(mean: float, alike: float) -> Draw:
    """Chances that are around `mean`; the smaller `alike`, the more of them are nearly 0 or 1."""
    return lambda rng, shape: rng.beta(mean * alike, (1 - mean) * alike, shape)


def solved(share: float, chance: float) -> Draw:
    """A `share` of the items is solved with that `chance`, the others never."""
    return lambda rng, shape: np.where(rng.random(shape) < share, chance, 0.0)


CHANCES: dict[str, tuple[Draw, float]] = {
    "1%, mixed": (beta(0.01, 1), 0.01),
    "2%, nearly always or never": (beta(0.02, 0.3), 0.02),
    "5%, mixed": (beta(0.05, 1), 0.05),
    "half a percent always, others never": (solved(0.005, 1), 0.005),
    "4% of items half of the time": (solved(0.04, 0.5), 0.02),
    "10%, mixed": (beta(0.1, 1), 0.1),
    "30%, mixed": (beta(0.3, 1), 0.3),
    "50%, any chance": (beta(0.5, 2), 0.5),
    "90%, mixed": (beta(0.9, 1), 0.9),
    "97%, nearly always or never": (beta(0.97, 0.5), 0.97),
    "99%, mixed": (beta(0.99, 1), 0.99),
}


def gained(rng: Rng, before: Floats, after: Floats, samples: int, shared: bool) -> tuple[Floats, Floats]:
    """Correct samples of both policies. `shared`: a sample that the better one fails, the other fails too."""
    if not shared:
        return rng.binomial(samples, before).astype(float), rng.binomial(samples, after).astype(float)
    apart = after - before
    low, high = np.minimum(before, after), np.abs(apart)
    only_one = rng.binomial(samples, high)
    with np.errstate(invalid="ignore"):
        both = rng.binomial(samples - only_one, np.nan_to_num(np.clip(low / (1 - high), 0, 1)))
    return (both + only_one * (apart < 0)).astype(float), (both + only_one * (apart > 0)).astype(float)


def pairs(rng: Rng, shape: tuple[int, int], gain: float) -> Iterator[tuple[str, Floats, Floats, bool]]:
    """The chances of two policies whose accuracies differ by `gain`, and whether they share their samples."""
    ease = rng.beta(1, 1, shape) * (1 - gain)
    mixed = np.where(rng.random(shape) < 0.4, 0.0, np.where(rng.random(shape) < 0.6, 1.0, rng.beta(0.3, 0.3, shape)))
    mixed *= 1 - gain
    hard = np.where(rng.random(shape) < 0.7, 0.0, 0.3)
    flipped = np.where(rng.random(shape) < gain, 1.0, 0.0)
    moved = rng.choice([-0.25, 0.25], shape)
    for shared in (True, False):
        how = ", the same samples" if shared else ""
        yield f"a little better at every item{how}", ease, ease + gain, shared
        yield f"a little better at every item, most of them sure{how}", mixed, mixed + gain, shared
        yield f"solves a few more items{how}", hard * (1 - flipped), np.maximum(hard * (1 - flipped), flipped), shared
        yield (
            f"better at some items, worse at others{how}",
            0.3 + 0.3 * ease / (1 - gain),
            0.3 + 0.3 * ease / (1 - gain) + moved + gain,
            shared,
        )


def holds(found: list[Interval], truth: float | Floats) -> tuple[float, float]:
    """The share of intervals that hold the truth, and their mean width."""
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    return float(((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean()), float((high - low).mean())


def points(rng: Rng, items: int, samples: int, sweeps: int, only: Only = None) -> Iterator[Cell]:
    """Accuracies."""
    for name, (draw, truth) in CHANCES.items():
        if only is not None and name not in only:
            continue
        right = rng.binomial(samples, draw(rng, (items, sweeps))).astype(float)
        shares = Shares.certain(right, np.full((items, 1), float(samples)))
        found = [Interval(float(low), float(high)) for low, high in zip(*intervals(shares), strict=True)]
        few = shares.graded[slice(0, BOOTSTRAPPED)]
        drawn = percentile_intervals(resampled_shares(few.right, few.asked, 0, DRAWS), items)
        yield Cell("accuracy", name, items, samples, truth, *holds(found, truth), *holds(drawn, truth))


def differences(rng: Rng, items: int, samples: int, sweeps: int, only: Only = None) -> Iterator[Cell]:
    """Of two policies."""
    asked = np.full((items, 1), float(samples))
    for gain in GAINS:
        for name, before, after, shared in pairs(rng, (items, sweeps), gain):
            name = f"{name}, {100 * gain:g} points"
            if only is not None and name not in only:
                continue
            first, second = gained(rng, before, after, samples, shared)
            found = paired_differences(Shares.certain(second, asked), Shares.certain(first, asked))
            few = slice(0, BOOTSTRAPPED)
            apart = (second - first)[:, few]
            apart = resampled_shares(apart, np.broadcast_to(asked, apart.shape), 0, DRAWS)
            drawn = percentile_intervals(apart, items)
            cover = holds([each.interval for each in found], gain)
            yield Cell("difference", name, items, samples, gain, *cover, *holds(drawn, gain))


def same_items(rng: Rng, items: int, samples: int, sweeps: int, only: Only = None) -> Iterator[Cell]:
    """Accuracies of these items, sampled again."""
    for name, (draw, _) in CHANCES.items():
        if only is not None and name not in only:
            continue
        chances = draw(rng, (items, 1))
        right = rng.binomial(samples, chances, (items, sweeps)).astype(float)
        found = share_intervals(Shares.certain(right, np.full((items, 1), float(samples))))
        known = [each for each in found if each is not None]
        truth = float(chances.mean())
        yield Cell("accuracy, same items", name, items, samples, truth, *holds(known, truth), np.nan, np.nan)


def tokens(rng: Rng, items: int, samples: int, sweeps: int, only: Only = None) -> Iterator[Cell]:
    """Mean tokens: lengths whose logarithms are normal within and between items, as they are and cut at a budget."""
    lengths = np.exp(rng.normal(7, 0.7, (1, items, sweeps)) + rng.normal(0, 0.4, (samples, items, sweeps)))
    many = np.exp(rng.normal(7, np.hypot(0.7, 0.4), 4_000_000))
    for budget in (np.inf, 2000.0, 500.0):
        name = "lengths as they are" if np.isinf(budget) else f"cut at {budget:,.0f}"
        if only is not None and name not in only:
            continue
        cut = np.minimum(lengths, budget).sum(axis=0)
        truth = float(np.minimum(many, budget).mean())
        asked = np.full((items, sweeps), float(samples))
        found = mean_intervals(Sums(cut, asked), 0, [budget] * sweeps)
        few = slice(0, BOOTSTRAPPED)
        drawn = percentile_intervals(resampled_shares(cut[:, few], asked[:, few], 0, DRAWS), items)
        yield Cell("mean tokens", name, items, samples, truth, *holds(found, truth), *holds(drawn, truth))


def best(rng: Rng, items: int, samples: int, sweeps: int) -> Iterator[Cell]:
    """The best of several runs, with the largest accuracy's bootstrap beside it. `samples` tokens are one each."""
    for runs in (2, 5, 12):
        for ahead in (0.0, 0.1):
            chances = rng.beta(1, 1, (sweeps, items, 1)) * (1 - ahead) + np.where(np.arange(runs) == 0, ahead, 0.0)
            right = (rng.random((sweeps, items, runs)) < chances).astype(float)
            truth = 0.5 * (1 - ahead) + ahead
            all_shares = [Shares.certain(each, np.ones((items, 1))) for each in right]
            found = [best_interval(shares, 0) for shares in all_shares]
            drawn = []
            for each in right[:BOOTSTRAPPED]:
                largest = resampled_shares(each, np.ones_like(each), 0, DRAWS).max(axis=1)
                drawn += percentile_intervals(largest[:, None], items)
            off = np.mean([held_out(shares.graded, 0) for shares in all_shares]) - truth
            over = right.mean(axis=1).max(axis=1).mean() - truth
            name = (
                f"{runs} runs, {'all alike' if not ahead else 'one ahead by 10 points'}: the largest is off by "
                f"{100 * over:+.1f} points, held out by {100 * off:+.1f}"
            )
            yield Cell("best of several", name, items, samples, truth, *holds(found, truth), *holds(drawn, truth))


def curve(rng: Rng, items: int, samples: int, sweeps: int) -> Iterator[Cell]:
    """Bands of eight points, which hold all of them or not; beside them, their intervals one by one."""
    levels = np.array([0.01, 0.03, 0.1, 0.2, 0.4, 0.5, 0.55, 0.6])
    ease = rng.random((sweeps, items, 1))
    chances = np.clip(levels + (ease - 0.5) * np.minimum(levels, 1 - levels) * 2, 0, 1)
    right = rng.binomial(samples, chances).astype(float)
    covered: dict[str, list[bool]] = {"band": [], "apart": []}
    widths: dict[str, list[float]] = {"band": [], "apart": []}
    for each in right:
        shares = Shares.certain(each, np.full((items, 1), float(samples)))
        apart = [Interval(float(low), float(high)) for low, high in zip(*intervals(shares), strict=True)]
        for name, found in (("band", band(shares, 0)), ("apart", apart)):
            share, width = holds(list(found), levels)
            covered[name].append(share == 1)
            widths[name].append(width)
    numbers = [float(np.mean(each[name])) for name in ("band", "apart") for each in (covered, widths)]
    yield Cell("whole curve", "eight points; beside: their own intervals", items, samples, np.nan, *numbers)


def groups(sweeps: int) -> Iterator[tuple[str, Callable[[], list[Cell]]]]:
    """The cells of each quantity, number of items and of samples: what they are called, and what measures them."""
    for quantity, counts in ((points, SAMPLES), (differences, SAMPLES), (same_items, SAMPLES[1:]), (tokens, (1, 16))):
        for items in ITEMS:
            for samples in counts:
                yield f"{quantity.__name__} {items} {samples}", partial(_twice, quantity, items, samples, sweeps)
    for items in ITEMS:
        yield f"best {items} 1", partial(_once, best, items, 1, sweeps)
    for items in ITEMS:
        for samples in (1, 16):
            yield f"curve {items} {samples}", partial(_once, curve, items, samples, sweeps)


def _once(quantity: Quantity, items: int, samples: int, sweeps: int) -> list[Cell]:
    return list(quantity(np.random.default_rng([items, samples]), items, samples, sweeps))


def _twice(quantity: Quantity, items: int, samples: int, sweeps: int) -> list[Cell]:
    """Those that are covered least are drawn anew, as many at a time as before."""
    cells = _once(quantity, items, samples, sweeps)
    least = frozenset(cell.population for cell in sorted(cells, key=lambda cell: cell.covered)[:AGAIN])
    drawn: dict[str, list[Cell]] = defaultdict(list)
    for number in range(1, MORE + 1):
        for cell in quantity(np.random.default_rng([items, samples, number]), items, samples, sweeps, least):
            drawn[cell.population].append(cell)
    anew = {name: _mean(each) for name, each in drawn.items()}
    return [anew.get(cell.population, cell) for cell in cells]


def _mean(cells: list[Cell]) -> Cell:
    """What a population comes to that was drawn several times."""
    names = ("truth", "covered", "width", "bootstrap_covered", "bootstrap_width")
    means: dict[str, Any] = {name: float(np.mean([getattr(cell, name) for cell in cells])) for name in names}
    return replace(cells[0], **means, anew=True)


def measure(sweeps: int, kept: Path | None) -> list[Cell]:
    """All cells. They are kept in a file as they come, a line for each group; what it has is not measured again."""
    known: dict[str, list[Cell]] = {}
    if kept is not None and kept.exists():
        for line in kept.read_text().splitlines():
            record = json.loads(line)
            if record["sweeps"] == sweeps:
                known[record["group"]] = [Cell(**cell) for cell in record["cells"]]
    cells = []
    for name, measured in groups(sweeps):
        if name not in known:
            known[name] = measured()
            if kept is not None:
                record = {"group": name, "sweeps": sweeps, "cells": [asdict(cell) for cell in known[name]]}
                with kept.open("a") as file:
                    file.write(json.dumps(record) + "\n")
        cells += known[name]
    return cells


def rows(cells: list[Cell]) -> Iterator[tuple[str, ...]]:
    """For each quantity, items and samples: least and mean coverage, mean width, and the bootstrap's."""
    for (quantity, items, samples), group in groupby(cells, lambda cell: (cell.quantity, cell.items, cell.samples)):
        own = list(group)
        worst = min([cell for cell in own if cell.anew] or own, key=lambda cell: cell.covered)
        mean, width, others = (
            float(np.mean([getattr(cell, name) for cell in own])) for name in ("covered", "width", "bootstrap_width")
        )
        beside = ["–", "–"]
        if not np.isnan(others):
            beside = [f"{min(cell.bootstrap_covered for cell in own):.3f}", f"{100 * others:.1f}"]
            if quantity == "mean tokens":
                beside[1] = f"{others:,.0f}"
        shown = f"{width:,.0f}" if quantity == "mean tokens" else f"{100 * width:.1f}"
        yield (
            *(quantity, str(items), str(samples), f"{worst.covered:.3f}", f"{mean:.3f}", shown),
            *(*beside, worst.population),
        )


TITLES = (
    *("intervals of", "items", "samples", "least covered", "covered", "width"),
    *("bootstrap: least covered", "width", "least covered of all"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=2000, help="simulated sweeps of each population")
    parser.add_argument("--cells", type=Path, metavar="FILE", help="where the figures of all populations are kept")
    arguments = parser.parse_args()
    cells = measure(arguments.sweeps, arguments.cells)
    table = Table(*TITLES, title="What 95% intervals cover; widths in points, of tokens in tokens")
    for row in rows(cells):
        table.add_row(*row)
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
