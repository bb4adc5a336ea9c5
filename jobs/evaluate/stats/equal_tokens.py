"""Searches against votes at equal tokens: each search, and what as many tokens come to where samples vote.

A search that takes t tokens a question pays for x = t / c samples of c tokens each, and x is seldom whole. But a whole
number can be drawn for each question: n + 1 samples with chance f, else n, where n + f = x. That is a policy like any
other. It takes exactly as many tokens in the mean as the search, and is right in the mean on

    V(x) = (1 - f) V(n) + f V(n + 1)

of the questions, where V(n) and V(n + 1) are means over all subsets of a pool of samples (:mod:`.elections`), so
nothing more is drawn for it either. Taking the nearest whole number instead gives one side up to half a sample for
nothing, and a line between 8 and 16 samples is below what 12 come to wherever votes gain ever less.

x is an estimate from the same items, so it is uncertain together with the rest. What item i says of V(x) is, to first
order (the delta method; of a ratio of means as in Cochran, *Sampling Techniques*, section 6.3),

    v_i(x) + (V(n + 1) - V(n)) (t_i - x c_i) / c,

which has V(x) for its mean: an item on which the search took more than its share of tokens says that votes could have
had more. With these values a difference is one of two means paired by item, and has the interval and the p-value of all
others. ``tests/evaluate/stats/test_equal_tokens.py`` holds it against policies that are run, against a bootstrap that
finds x anew in each resample, and against simulated sweeps whose truth is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jobs.evaluate.stats.at_k import together
from jobs.evaluate.stats.comparisons import holm
from jobs.evaluate.stats.intervals import Difference, Shares, Sums, paired_differences
from jobs.evaluate.stats.options import decoded_tokens
from jobs.evaluate.stats.outcomes import Outcomes
from jobs.evaluate.stats.sample_scores import SCORER
from jobs.evaluate.stats.votes import Vote
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy

_WHOLE = 1e-9
"""Numbers of samples that are so close to a whole one are that."""


@dataclass(frozen=True)
class EqualTokens:
    """A search, and a vote over as many samples as its tokens pay for."""

    task: str
    policy: str
    """The search."""
    votes: str
    """Of which samples, and how they vote: ``auto majority``."""
    scorer_counted: bool
    """Whether tokens are all that is decoded and read by the scorer, of both; else those that are decoded."""
    tokens: float
    """Of one question, in the mean."""
    samples: float
    """That these tokens pay for."""
    accuracy: float
    """Of the search."""
    voted: float
    """What the vote comes to; NaN where the sweep has not as many samples, and where not one is paid for."""
    difference: Difference | None
    """The search less the vote; None where the vote is not known."""
    bound: bool
    """Whether one of the two knows the right answers: then nobody can have it, and it bounds the other."""
    p_holm: float = math.nan
    """The p-value, corrected for all comparisons of the task that are no bounds (Holm 1979)."""


def at_equal_tokens(
    task: Outcomes, policies: Sequence[Policy], votes: Sequence[Vote], seed: int = 0, told: bool = False
) -> tuple[EqualTokens, ...]:
    """Every search of a sweep, the columns of whose outcomes are `policies`, beside every vote.

    Samples are those of the natural end, and of ``scored`` traces for votes by the scorer; `told` scorers know the
    right answers, and `seed` is for votes that can only be drawn.
    """
    decoded = decoded_tokens(task, policies)
    read = np.asarray(task.totals["scorer_tokens"])
    searches = [column for column, policy in enumerate(policies) if policy.root.steps is not None and policy.elects]
    compared: list[EqualTokens] = []
    for search in searches:
        for counted in (True, False):
            for vote, column in _ladders(policies, votes):
                of_search, of_sample = (decoded[:, [each]] for each in (search, column))
                if counted:
                    of_search = of_search + read[:, [search]]
                    of_sample = of_sample + (read[:, [column]] if vote.score == SCORER else 0.0)
                spent = Sums(of_search, task.samples[:, [search]])
                each = Sums(of_sample, task.samples[:, [column]])
                samples = float(spent.means[0] / each.means[0]) if each.means[0] > 0 else math.nan
                shares = _voted(task, vote, column, samples, spent, each, seed)
                difference = None if shares is None else paired_differences(task.shares[[search]], shares)[0]
                compared.append(
                    EqualTokens(
                        task.task,
                        policies[search].name,
                        f"{policies[column].name} {vote.kind}" + (f" by {vote.score}" if vote.score else ""),
                        counted,
                        float(spent.means[0]),
                        samples,
                        float(task.shares.graded.means[search]),
                        math.nan if shares is None else float(shares.graded.means[0]),
                        difference,
                        vote.oracle or told,
                    )
                )
    return _corrected(compared)


def _ladders(policies: Sequence[Policy], votes: Sequence[Vote]) -> Iterator[tuple[Vote, int]]:
    """Each vote, and the column of the samples that it takes."""
    natural = [column for column, policy in enumerate(policies) if policy == Budget()]
    scored = [column for column, policy in enumerate(policies) if policy.root.steps is not None and not policy.elects]
    for vote in votes:
        for column in scored if vote.score == SCORER else natural:
            yield vote, column


def _voted(
    task: Outcomes, vote: Vote, column: int, samples: float, spent: Sums, each: Sums, seed: int
) -> Shares | None:
    """What so many samples elect, item by item; None where the pool does not tell."""
    if abs(samples - round(samples)) < _WHOLE:
        samples = round(samples)
    if not 1 <= samples <= task.samples[:, column].max(initial=0):
        return None
    whole = math.floor(samples)
    part = samples - whole
    ks = [whole, whole + 1] if part else [whole]
    of_ks = together(task, vote, ks, slice(column, column + 1), seed).shares
    if not of_ks.graded.items.all():
        return None  # samples without such a score, or fewer of them
    taken = (spent.values - samples * each.values) / each.means

    def mixed(sums: Sums) -> Sums:
        values, means = sums.values, sums.means
        slope = means[-1] - means[0]
        linear = (1 - part) * values[:, :1] + part * values[:, -1:] + slope * taken
        return Sums(linear, np.ones_like(linear))

    return _each(of_ks, mixed)


def _each(shares: Shares, change: Callable[[Sums], Sums]) -> Shares:
    graded = change(shares.graded)
    if shares.are_certain:
        return Shares(graded, graded, graded)
    return Shares(graded, change(shares.least), change(shares.most))


def _corrected(found: Sequence[EqualTokens]) -> tuple[EqualTokens, ...]:
    chances = [math.nan if each.bound or each.difference is None else each.difference.p_value for each in found]
    return tuple(replace(each, p_holm=float(p)) for each, p in zip(found, holm(np.array(chances)), strict=True))
