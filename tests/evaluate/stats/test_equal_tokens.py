"""Searches against votes at equal tokens: held against policies that are run, a bootstrap, and a known truth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import comb, roots_jacobi
from scipy.stats import beta

from jobs.evaluate.figures.equal_tokens import as_markdown, read, write
from jobs.evaluate.stats.equal_tokens import EqualTokens, at_equal_tokens
from jobs.evaluate.stats.options import options
from jobs.evaluate.stats.outcomes import TOKENS, Outcomes, of_frame
from jobs.evaluate.stats.votes import Vote, spelled
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.rebase import Rebase
from jobs.evaluate.sweep.policies.scored import Scored
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.steps import Steps
from tests.evaluate.stats.test_at_k import rows

AUTO, STEPS = Budget(), Steps("\n", 32, 6)
SEARCH, SCORED = Rebase(4, STEPS, "weighted", 1, 0.1), Scored(4, Steps(None, 96, 1), "best", 1)
MAJORITY = Vote("majority")


def sweep(
    said: np.ndarray,
    costs: np.ndarray,
    found: np.ndarray,
    spent: np.ndarray,
    read: np.ndarray | float = 0.0,
    repeats: int = 1,
) -> Outcomes:
    """One whose samples `said` (0: right; 1, 2 …: a wrong answer) for `costs`, ``[items, samples]``, and whose search
    found the right answer in `found` of its `repeats`, for `spent` tokens each and what its scorer `read`."""
    items, samples = said.shape
    wrong = np.zeros((items, 2, max(1, said.max())), dtype=np.int64)
    for answer in range(1, said.max() + 1):
        wrong[:, 0, answer - 1] = (said == answer).sum(axis=1)
    wrong[:, 1, 0] = repeats - found
    none = np.zeros((items, 2))
    totals = dict.fromkeys((*TOKENS, "no_answer", "error"), none)
    totals |= {"thinking_tokens": np.column_stack([costs.sum(axis=1), repeats * spent])}
    asked = np.column_stack([np.full(items, float(samples)), np.full(items, float(repeats))])
    totals |= {"scorer_tokens": np.column_stack([none[:, 0], none[:, 1] + repeats * read]), "tries": asked}
    right = np.column_stack([(said == 0).sum(axis=1), found]).astype(float)
    names = tuple(map(str, range(items)))
    return Outcomes("letters", names, (AUTO.name, SEARCH.name), asked, right, totals, {}, wrong, {})


def beside(task: Outcomes, vote: Vote = MAJORITY) -> EqualTokens:
    """The search beside the vote, where what a scorer reads is not counted."""
    (found,) = (each for each in at_equal_tokens(task, (AUTO, SEARCH), (vote,)) if not each.scorer_counted)
    return found


def elected(said: Sequence[int]) -> float:
    """The chance that a plurality of these, ties broken by lot, is right."""
    votes = Counter(said)
    leaders = [answer for answer, count in votes.items() if count == max(votes.values())]
    return (0 in leaders) / len(leaders)


def small(items: int, seed: int) -> tuple[np.ndarray, ...]:
    """Samples, what they cost, and a search that takes longer where samples do, and finds what they do not."""
    rng = np.random.default_rng(seed)
    ease = rng.beta(1.5, 1.2, items)
    said = np.where(rng.random((items, 6)) < ease[:, None], 0, rng.integers(1, 4, (items, 6)))
    costs = rng.integers(10, 30, (items, 6)) + (40 * (1 - ease[:, None])).astype(int)
    found = rng.random(items) < 0.3 + 0.6 * ease
    spent = 2.2 * costs.mean(axis=1) + rng.integers(0, 80, items) * (1.5 - ease)
    return said, costs.astype(float), found, spent


def test_what_votes_come_to_is_the_mean_of_a_policy_that_is_run() -> None:
    """n of six samples, or n + 1, by the toss of a coin: every subset of each, voting by itself."""
    said, costs, found, spent = small(9, 0)
    of_search = beside(sweep(said, costs, found, spent))
    samples = spent.mean() / costs.mean()
    whole = int(samples)
    assert 1 < whole < samples < whole + 1 < 6
    by_k = {k: np.mean([[elected(each) for each in combinations(row, k)] for row in said]) for k in (whole, whole + 1)}
    chance = samples - whole
    assert of_search.samples == pytest.approx(samples)
    assert of_search.voted == pytest.approx((1 - chance) * by_k[whole] + chance * by_k[whole + 1], abs=1e-12)
    assert of_search.tokens == pytest.approx(((1 - chance) * whole + chance * (whole + 1)) * costs.mean())
    assert of_search.difference is not None
    assert of_search.difference.value == pytest.approx(found.mean() - of_search.voted)


REPEATS = 32


def uncertain(items: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Items whose samples are right with a chance p of Beta(2, 3), and searches with one of 0.3 + 0.5 p.

    A sample takes 20 tokens, and a search 50 in the mean, so unequal from item to item that little is known of how many
    samples that pays for, on which the chance that one of them is right depends most.
    """
    ease = rng.beta(2, 3, items)
    said = (rng.random((items, 12)) > ease[:, None]).astype(int)
    found = rng.binomial(REPEATS, 0.3 + 0.5 * ease)
    return said, np.full((items, 12), 20.0), found, 50 * rng.gamma(1.0, 1.0, items)


def test_the_interval_is_that_of_a_bootstrap_which_finds_the_number_of_samples_anew() -> None:
    rng = np.random.default_rng(2)
    said, costs, found, spent = uncertain(200, rng)
    right = (said == 0).sum(axis=1)
    tables = 1 - np.array([comb(12 - right, k) / comb(12, k) for k in range(1, 13)]).T
    differences = []
    for _ in range(4000):
        drawn = rng.integers(0, 200, 200)
        voted = np.interp(spent[drawn].mean() / 20, range(1, 13), tables[drawn].mean(axis=0))
        differences.append(found[drawn].mean() / REPEATS - voted)
    low, high = np.quantile(differences, [0.025, 0.975])
    difference = beside(sweep(said, costs, found, spent, repeats=REPEATS), Vote("pass")).difference
    assert difference is not None
    assert high - low > 0.08
    assert (difference.interval.low, difference.interval.high) == pytest.approx((low, high), abs=0.01)


def test_intervals_cover_a_truth_that_is_known() -> None:
    rng = np.random.default_rng(3)
    nodes, weights = roots_jacobi(64, 2.0, 1.0)
    ease, weights = (nodes + 1) / 2, weights / weights.sum()
    assert weights @ ease == pytest.approx(beta.mean(2, 3))
    voted = np.interp(50 / 20, range(1, 13), [weights @ (1 - (1 - ease) ** k) for k in range(1, 13)])
    truth = weights @ (0.3 + 0.5 * ease) - voted
    covered = 0
    for _ in range(400):
        said, costs, found, spent = uncertain(60, rng)
        of_sweep = beside(sweep(said, costs, found, spent, repeats=REPEATS), Vote("pass")).difference
        assert of_sweep is not None
        covered += of_sweep.interval.low <= truth <= of_sweep.interval.high
    assert 0.93 <= covered / 400 <= 0.985


def test_what_the_scorer_read_counts_on_both_sides_or_on_none() -> None:
    """REBASE and votes by the scorer both read; a majority reads nothing."""
    frame = pd.DataFrame(
        [
            *(row | {"score": None, "scorer_tokens": 0} for row in rows("a", ["16", "2", "2", "2"])),
            *(
                row | {"score": score, "scorer_tokens": 26}
                for row, score in zip(rows("a", ["16", "2", "2", "2"], SCORED), (0.9, 0.1, 0.2, 0.3), strict=True)
            ),
            *(row | {"score": 0.9, "scorer_tokens": 15, "thinking_tokens": 26} for row in rows("a", ["16"], SEARCH)),
        ]
    ).astype({"extracted": "string", "meaning": "string"})
    policies: list[Policy] = [AUTO, SCORED, SEARCH]
    (task,) = of_frame(frame, [each.name for each in policies], ["scorer"])
    found = at_equal_tokens(task, policies, spelled(("pass", "majority", "best"), ("scorer",)))
    at = {(each.votes, each.scorer_counted): each for each in found}
    # A sample takes 11.5 + 3 tokens, the search 26 + 3, and its scorer 15.
    assert at["auto majority", False].samples == pytest.approx(29 / 14.5)
    assert at["auto majority", True].samples == pytest.approx(44 / 14.5)
    assert at["scored best by scorer", False].samples == pytest.approx(29 / 14.5)
    assert at["scored best by scorer", True].samples == pytest.approx(44 / 40.5)
    assert at["auto majority", False].voted == pytest.approx((3 * 0.5) / 6)
    assert at["scored best by scorer", False].voted == pytest.approx(0.5)
    assert [each.bound for each in found] == [each.votes == "auto pass" for each in found]
    assert all(math.isnan(each.p_holm) == each.bound for each in found)
    named = {each.name for each in options(task, policies, (MAJORITY, Vote("best", "scorer")), "sweep").options}
    assert "scored best@4 by scorer" in named
    assert not named & {"scored", "scored majority@4"}, "these are what auto's are"
    told = at_equal_tokens(task, policies, (MAJORITY,), told=True)
    assert all(each.bound for each in told), "a search whose scorer knows the answer is a bound"


def test_more_samples_than_there_are_and_less_than_one_are_not_guessed(tmp_path: Path) -> None:
    said, costs, found, spent = small(20, 4)
    dear = at_equal_tokens(sweep(said, costs, found, spent, read=5000.0), (AUTO, SEARCH), (MAJORITY,))
    assert [each.difference is None for each in dear] == [True, False]
    assert dear[0].samples > 6
    cheap = at_equal_tokens(sweep(said, costs, found, costs.min() / 9 + 0 * spent), (AUTO, SEARCH), (MAJORITY,))
    assert all(each.difference is None for each in cheap)
    assert ", not drawn | " in as_markdown(dear)
    write(dear, tmp_path)
    assert [each["difference"] is None for each in read(tmp_path)] == [True, False]
    assert at_equal_tokens(sweep(said, costs, found, spent), (AUTO, AUTO), (MAJORITY,)) == ()
    assert as_markdown(()) == ""
