"""What is called worth its cost, in simulated sweeps whose truth is known, and by hand."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from jobs.evaluate.figures.frontier_tables import as_markdown, records, sentence
from jobs.evaluate.stats.choice import held_out, held_out_within
from jobs.evaluate.stats.curves import drawn
from jobs.evaluate.stats.frontier import Frontier, frontiers
from jobs.evaluate.stats.intervals import Shares, Sums
from jobs.evaluate.stats.options import LATENCY, TOKENS, USD, Option, Options, options
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.stats.votes import Vote, spelled
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from jobs.evaluate.sweep.policies.rejection import RejectionSampling
from tests.evaluate.stats.test_at_k import rows, write


def simulated(chances: np.ndarray, costs: np.ndarray, rng: np.random.Generator, samples: int = 1) -> Options:
    """A sweep whose options are right on each item with `chances`, ``[items, options]``, and cost so much of each."""
    items, count = chances.shape
    right = rng.binomial(samples, chances).astype(float)
    asked = np.full(right.shape, float(samples))
    policies = [Budget(budget) for budget in range(1, count + 1)]
    spent = {TOKENS: Sums(samples * np.broadcast_to(costs, right.shape), asked)}
    return Options(
        "letters", tuple(map(str, range(items))), tuple(Option("sweep", each) for each in policies),
        Shares.certain(right, asked), spent,
    )  # fmt: skip


def marked(found: Options) -> list[str]:
    (frontier,) = frontiers(found, seed=0)
    return [point.option.name for point in frontier.points]


@pytest.mark.seconds
@pytest.mark.parametrize(("items", "samples"), [(30, 1), (100, 4)])
def test_where_no_option_is_better_few_sweeps_have_a_frontier(items: int, samples: int) -> None:
    """200 sweeps of 12 options, alike on items that differ: at most 5% may have any but the cheapest on it."""
    rng = np.random.default_rng(items)
    false = 0
    for _ in range(200):
        ease = np.repeat(rng.beta(1.2, 0.8, (items, 1)), 12, axis=1)
        false += len(marked(simulated(ease, np.arange(12.0) + 1, rng, samples))) > 1
    assert false / 200 <= 0.05


def test_where_dearer_options_are_worse_none_is_on_the_frontier() -> None:
    rng = np.random.default_rng(4)
    false = 0
    for _ in range(100):
        chances = np.clip(rng.beta(1.2, 0.8, (100, 1)) - np.linspace(0, 0.1, 8), 0, 1)
        false += len(marked(simulated(chances, np.arange(8.0) + 1, rng))) > 1
    assert false <= 2


@pytest.mark.seconds
def test_a_better_option_is_found_and_an_equal_one_that_is_dearer_is_not() -> None:
    """Of six options the third is 25 points better, the fifth no better than it: 100 sweeps of 200 items."""
    rng = np.random.default_rng(5)
    found, dearer = 0, 0
    for _ in range(100):
        chances = np.repeat(rng.beta(2, 2, (200, 1)) * 0.7, 6, axis=1)
        chances[:, [2, 4]] += 0.25
        on = marked(simulated(chances, np.arange(6.0) + 1, rng))
        found += "3" in on
        dearer += "5" in on
        assert on[0] == "1", "the cheapest is where it begins"
    assert found >= 95
    assert dearer <= 5


def test_steps_that_cannot_be_told_apart_one_by_one_are_passed_over() -> None:
    """Each of 8 budgets adds two points on 300 items: no step is there by itself, several together are."""
    rng = np.random.default_rng(6)
    thresholds = rng.random((300, 1))
    chances = (thresholds < 0.3 + 0.02 * np.arange(8)).astype(float)
    on = marked(simulated(chances, 2.0 ** np.arange(8), rng))
    assert 2 <= len(on) < 8
    assert on[0] == "1"


def test_what_was_chosen_scores_less_on_items_that_had_no_say() -> None:
    """20 equal options of 30 items: the best looks better than all are, held out it does not."""
    rng = np.random.default_rng(7)
    best, held = [], []
    for _ in range(60):
        sums = simulated(np.full((30, 20), 0.5), np.ones(20), rng).shares.graded
        best.append(sums.means.max())
        held.append(held_out_within(sums, [1, 20], seed=0)[1])
        assert held[-1] == held_out(sums, seed=0)
    assert np.mean(best) > 0.62
    assert np.mean(held) == pytest.approx(0.5, abs=0.03)


def test_the_longest_of_k_paths_is_the_mean_over_all_subsets(tmp_path: Path) -> None:
    auto = Budget()
    lengths = [3, 9, 4, 4, 1]
    of_item = rows("a", ["16", "2", "16", "-", "3"])
    for row, length in zip(of_item, lengths, strict=True):
        row["thinking_tokens"] = length
    (task,) = read(write(tmp_path, of_item), ["auto"])
    found = options(task, [auto], spelled(("majority",), ()), "sweep", at_k=(1, 2, 3, 5))
    assert [each.name for each in found.options] == ["auto", "auto majority@2", "auto majority@3", "auto majority@5"]
    paths = [length + 3 for length in lengths]  # three tokens of answer
    expected = [np.mean([max(each) for each in combinations(paths, k)]) for k in (2, 3, 5)]
    np.testing.assert_allclose(found.costs[LATENCY].means, [np.mean(paths), *expected])
    np.testing.assert_allclose(found.costs[TOKENS].means, np.mean(paths) * np.array([1, 2, 3, 5]))
    assert USD not in found.costs


def test_of_rejection_sampling_all_tries_count_and_no_several_are_taken(tmp_path: Path) -> None:
    auto, rejection = Budget(), RejectionSampling(8, 2)
    tried = rows("a", ["16", "2"], rejection)
    for row, tries in zip(tried, (1, 2), strict=True):
        row |= {"tries": tries, "thinking_tokens": 6}
    plain = [row | {"tries": 1} for row in rows("a", ["16", "2"])]
    (task,) = read(write(tmp_path, plain, tried), ["auto", rejection.name])
    found = options(task, [auto, rejection], spelled(("majority",), ()), "sweep", usd_per_token=0.5)
    assert [each.name for each in found.options] == ["auto", rejection.name, "auto majority@2"]
    cost = found.costs[TOKENS].means[1]
    assert cost == pytest.approx((9 + 9 + 9) / 2), "a try that was thrown away had thought 9 tokens, one beyond 8"
    assert found.costs[USD].means[1] == pytest.approx(0.5 * cost)


def frontier_of(accuracies: list[float], costs: list[float], axis: str = TOKENS) -> Frontier:
    """Items enough for every difference to be there."""
    items = 1000
    right = (np.arange(items)[:, None] < items * np.array(accuracies)).astype(float)
    asked = np.ones_like(right)
    policies = [Budget(2048), Budget(4096), Extension(None, "Wait", 2)][: len(accuracies)]
    named = tuple(Option("sweep", policy) for policy in policies)
    named = (named[0], Option("sweep", policies[1], Vote("majority"), 2), *named[2:])
    found = Options(
        "aime24", tuple(map(str, range(items))), named, Shares.certain(right, asked),
        {axis: Sums(np.broadcast_to(np.array(costs), right.shape), asked)},
    )  # fmt: skip
    return frontiers(found, seed=0)[0]


def test_the_sentence_says_what_to_do_for_how_much() -> None:
    frontier = frontier_of([0.3, 0.5, 0.6], [2048.0, 8011.0, 15900.0])
    assert sentence(frontier) == (
        "For 2,100 tokens a question: 1 sample cut at 2,048 (30.0%); for 8,100: 2 samples cut at 4,096, majority "
        '(50.0%); for 16,000: 1 sample of 2x"Wait" (60.0%).'
    )
    assert sentence(frontier, budgets=[16000, 1000, 4000]) == (
        "For 1,000 tokens a question: nothing, the cheapest takes 2,048; for 4,000: 1 sample cut at 2,048 (30.0%); "
        'for 16,000: 1 sample of 2x"Wait" (60.0%).'
    )
    dollars = frontier_of([0.3, 0.5], [0.00213, 0.0119], USD)
    assert sentence(dollars).startswith("For $0.0022 a question: 1 sample cut at 2,048 (30.0%); for $0.012: 2 samples")


def test_the_table_has_what_is_on_the_frontier_and_the_record_has_all() -> None:
    frontier = frontier_of([0.3, 0.3, 0.6], [2048.0, 8011.0, 15900.0])
    text = as_markdown([frontier])
    assert "aime24: accuracy against tokens (3 options, 1,000 items)" in text
    assert "| 1 sample cut at 2,048 | 2,048 | 30.0% |" in text
    assert "majority" not in text
    assert "+30.0 (+" in text
    (record,) = records([frontier])
    assert [each["on_frontier"] for each in record["options"]] == [True, False, True]
    assert record["options"][1]["name"] == "4096 majority@2"
    assert record["options"][2]["gain_low"] > 0


def test_options_of_two_sweeps_are_on_the_items_of_both() -> None:
    one, other = (
        Options("letters", items, (Option(name, Budget()),), Shares.certain(np.array(right)[:, None], np.ones((3, 1))),
                {TOKENS: Sums(np.array(cost)[:, None], np.ones((3, 1)))})
        for name, items, right, cost in (
            ("sweep", ("a", "b", "c"), [1.0, 0.0, 1.0], [1.0, 2.0, 3.0]),
            ("search", ("b", "c", "d"), [1.0, 0.0, 1.0], [10.0, 20.0, 30.0]),
        )
    )  # fmt: skip
    both = one.beside(other)
    assert both.items == ("b", "c")
    np.testing.assert_array_equal(both.shares.graded.right, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(both.costs[TOKENS].means, [2.5, 15])


def test_a_bound_is_no_choice_and_what_was_not_graded_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, rows("a", ["16", "2"]), rows("b", ["2", "3"]))
    (task,) = read(path, ["auto"], ["exact"])
    (over, _) = frontiers(options(task, [Budget()], spelled(("pass", "best"), ("exact",)), "sweep"), seed=0)
    assert [each.option.name for each in over.options] == ["auto"]
    assert [each.option.name for each in over.bounds] == ["auto pass@2", "auto best@2 by exact"]
    (task,) = read(write(tmp_path, rows("a", ["!", "!"])), ["auto"])
    (over, _) = frontiers(options(task, [Budget()], (), "sweep"), seed=0)
    assert over.points == ()
    assert "nothing is known to be worth its cost" in sentence(over)
    assert math.isnan(held_out_within(task.shares.graded, [1], 0)[0])


class Searched(Budget):
    """A policy whose every sample is what many traces elect."""

    @property
    def name(self) -> str:
        return "searched"

    @property
    def elects(self) -> bool:
        return True


def test_what_a_scorer_reads_is_paid_for_by_what_goes_by_it(tmp_path: Path) -> None:
    auto, scored, searched = Budget(), Extension(None, "Wait", 1), Searched()
    of_auto = [row | {"score": None, "scorer_tokens": 0} for row in rows("a", ["16", "2"])]
    of_scored = [
        row | {"score": score, "scorer_tokens": 100}
        for row, score in zip(rows("a", ["16", "2"], scored), (0.9, 0.1), strict=True)
    ]
    of_search = [row | {"policy": "searched", "score": 0.5, "scorer_tokens": 300} for row in rows("a", ["16", "2"])]
    policies = [auto, scored, searched]
    (task,) = read(write(tmp_path, of_auto, of_scored, of_search), [each.name for each in policies], ["scorer"])
    votes = spelled(("majority", "weighted", "best"), ("scorer",))
    over = {each.axis: each for each in frontiers(options(task, policies, votes, "sweep"), seed=0)}
    tokens = {each.option.name: each for each in over[TOKENS].options}
    wait = scored.name
    assert set(tokens) == {
        *("auto", wait, "searched", "auto majority@2", f"{wait} majority@2"),
        *(f"{wait} weighted@2 by scorer", f"{wait} best@2 by scorer"),
    }
    assert tokens[f"{wait} best@2 by scorer"].accuracy == 1
    assert tokens[f"{wait} best@2 by scorer"].cost == pytest.approx(2 * (tokens[wait].cost + 100))
    assert tokens[f"{wait} majority@2"].cost == pytest.approx(2 * tokens[wait].cost)
    assert tokens["searched"].cost == pytest.approx(tokens["auto"].cost + 300)
    latency = {each.option.name for each in over[LATENCY].options}
    assert "searched" not in latency, "how long its longest trace is, nobody knows"
    assert f"{wait} best@2 by scorer" in latency
    (told, _) = frontiers(options(task, policies, votes, "sweep", told=True), seed=0)
    assert {each.option.name for each in told.bounds} == {
        *("searched", f"{wait} weighted@2 by scorer", f"{wait} best@2 by scorer"),
    }
    curves = {curve.name: curve for curve in drawn([task], policies, votes=votes)}
    assert "best@k by scorer" not in curves, "the natural end's samples have no score"
    silent = [row | {"score": None, "scorer_tokens": 0} for row in rows("b", ["-", "-"])]
    (both,) = read(write(tmp_path, of_auto, silent), [auto.name], ["scorer"])
    (unscored, _) = frontiers(options(both, [auto], votes, "sweep"), seed=0)
    assert not any("by scorer" in each.option.name for each in unscored.options), "silent items are no exception"
    by_scorer = curves["Wait"].points[-1].scaled(Vote("best", "scorer"))
    assert [point.accuracy for point in by_scorer] == [0.5, 1]
