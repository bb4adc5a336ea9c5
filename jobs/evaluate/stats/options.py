"""Everything that a sweep could have done about a task: each policy with one sample, and with k by each vote.

An option has an accuracy, and what it costs a question: tokens decoded, those of its longest path, dollars. All of it
is ``[items, options]``, so that options of one sweep or of several are compared item by item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import comb

from jobs.evaluate.stats.at_k import shown, together
from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.intervals import Shares, Sums
from jobs.evaluate.stats.outcomes import Outcomes
from jobs.evaluate.stats.pool import NONE, Pool
from jobs.evaluate.stats.sample_scores import SCORER
from jobs.evaluate.stats.votes import Vote
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy

TOKENS, LATENCY, USD = "tokens", "latency", "usd"


@dataclass(frozen=True)
class Option:
    """One thing to do about a question."""

    sweep: str
    policy: Policy
    vote: Vote | None = None
    k: int = 1
    told: bool = False
    """Whether the scorer of its sweep knows the right answers."""

    @property
    def name(self) -> str:
        """As in tables: ``auto``, ``auto majority@8``."""
        return self.policy.name if self.vote is None else f"{self.policy.name} {self.vote.at(self.k)}"

    @property
    def words(self) -> str:
        """``2 samples cut at 2,048, majority``."""
        samples = "1 sample" if self.k == 1 else f"{self.k} samples"
        if not isinstance(self.policy, Budget):
            how = f"of {self.policy.name}"
        elif self.policy.budget is None:
            how = "left to think to the end"
        else:
            how = f"cut at {self.policy.budget:,}"
        vote = "" if self.vote is None else f", {self.vote.kind}{f' by {self.vote.score}' if self.vote.score else ''}"
        return f"{samples} {how}{vote}"

    @property
    def oracle(self) -> bool:
        """Whether it takes someone who knows the right answer: a bound, and nothing to choose."""
        if self.policy.told:
            return True
        if self.vote is None:
            return self.told and self.policy.elects
        return self.vote.oracle or (self.told and self.vote.score == SCORER)


@dataclass(frozen=True)
class Options:
    """Options on the same items, in the order of their columns."""

    task: str
    items: tuple[str, ...]
    options: tuple[Option, ...]
    shares: Shares
    """Of correct answers."""
    costs: Mapping[str, Sums]
    """By :data:`TOKENS`, :data:`LATENCY` (tokens that are decoded one after the other) and :data:`USD`; what one of the
    sweeps does not know is not there; NaN of an option of which it is not known."""

    def beside(self, other: Options) -> Options:
        """The options of both, on the items that both were asked."""
        others = set(other.items)
        shared = [item for item in self.items if item in others]
        one, two = (_on(each, shared) for each in (self, other))
        costs = {axis: sums.beside(two.costs[axis]) for axis, sums in one.costs.items() if axis in two.costs}
        options = (*one.options, *two.options)
        return Options(self.task, tuple(shared), options, one.shares.beside(two.shares), costs)

    def __getitem__(self, columns: Sequence[int]) -> Options:
        """Some of them."""
        costs = {axis: sums[columns] for axis, sums in self.costs.items()}
        options = tuple(self.options[column] for column in columns)
        return Options(self.task, self.items, options, self.shares[columns], costs)


def _on(options: Options, items: Sequence[str]) -> Options:
    places = {item: place for place, item in enumerate(options.items)}
    rows = np.array([places[item] for item in items], dtype=np.int64)
    costs = {axis: sums.rows(rows) for axis, sums in options.costs.items()}
    return Options(options.task, tuple(items), options.options, options.shares.rows(rows), costs)


def options(
    task: Outcomes,
    policies: Sequence[Policy],
    votes: Sequence[Vote],
    sweep: str,
    at_k: Sequence[int] | None = None,
    usd_per_token: float | None = None,
    seed: int = 0,
    told: bool = False,
) -> Options:
    """All that a sweep's `policies`, the columns of its outcomes, can be used for.

    Of a policy whose samples are made of others' (rejection sampling, what a search elects, a rule on several samples),
    no several are taken together. What a scorer reads is in the tokens of whatever goes by it; `told` scorers know the
    right answers. Traces that are decoded to be scored are there for votes by their scores: by themselves they are what
    the natural end's are.
    """
    decoded = Sums(decoded_tokens(task, policies), task.samples)
    read = np.asarray(task.totals["scorer_tokens"])
    elects = np.array([policy.elects for policy in policies])
    alone = Sums(decoded.right + np.where(elects, read, 0.0), task.samples)
    found = [Option(sweep, policy, told=told) for policy in policies]
    shares = [task.shares]
    # Of a search, or a rule on several samples, it is known what all traces took, and not how long the longest is.
    many = elects | np.array([policy.runs_of != 1 for policy in policies])
    tokens, paths = [alone], [Sums(np.where(many, np.nan, decoded.right), task.samples)]
    pooled = [column for column, policy in enumerate(policies) if not policy.tries and not many[column]]
    ks = [k for k in shown(task.most, at_k) if 1 < k <= task.most]
    if ks and pooled and task.pool is not None:
        columns = np.array(pooled)
        longest = _longest(task.pool, ks)[:, columns].reshape(len(task.items), -1)
        asked = np.repeat((task.samples > 0)[:, columns].astype(np.float64), len(ks), axis=1)
        several = np.tile(np.array(ks, dtype=np.float64), len(pooled))
        for vote in votes:
            of_vote = together(task, vote, ks, slice(0, len(policies)), seed).shares
            shares.append(of_vote[np.add.outer(columns * len(ks), np.arange(len(ks))).ravel()])
            each = Sums(decoded.right + (read if vote.score == SCORER else 0.0), task.samples)
            each = each[np.repeat(columns, len(ks))]
            tokens.append(Sums(several * each.right, each.asked))
            paths.append(Sums(np.where(asked > 0, longest, 0.0), asked))
            found += [Option(sweep, policies[column], vote, k, told) for column in pooled for k in ks]
    costs = {TOKENS: _beside(tokens), LATENCY: _beside(paths)}
    if usd_per_token is not None:
        costs[USD] = Sums(usd_per_token * costs[TOKENS].right, costs[TOKENS].asked)
    together_shares = shares[0]
    for more in shares[1:]:
        together_shares = together_shares.beside(more)
    everything = Options(task.task, task.items, tuple(found), together_shares, costs)
    return everything[[place for place, each in enumerate(found) if not _same_as_natural(each, policies)]]


def _same_as_natural(option: Option, policies: Sequence[Policy]) -> bool:
    scored = option.policy.root.steps is not None and not option.policy.elects
    by_score = option.vote is not None and option.vote.score == SCORER
    return scored and not by_score and Budget() in policies


def _beside(sums: Sequence[Sums]) -> Sums:
    right, asked = (np.hstack([getattr(each, name) for each in sums]) for name in ("right", "asked"))
    return Sums(right, asked)


def decoded_tokens(task: Outcomes, policies: Sequence[Policy]) -> Floats:
    """Tokens that each policy by itself decodes, ``[items, policies]``: what is injected is not, and of tries that
    rejection sampling throws away all up to the limit is."""
    last = task.totals["thinking_tokens"] - task.totals["injected_tokens"] + task.totals["answer_tokens"]
    thrown_away = task.totals["tries"] - task.samples
    return np.asarray(last + thrown_away * np.array([policy.route.cut or 0 for policy in policies]))


def _longest(pool: Pool, ks: Sequence[int]) -> Floats:
    """The longest of k samples' paths, in the mean over all subsets: ``[items, policies, ks]``.

    Of n paths in ascending order, the one at place r is the longest of C(r, k-1) of the C(n, k) subsets.
    """
    there = pool.said != NONE
    counts = there.sum(axis=2)
    paths = np.sort(np.where(there, pool.paths, np.inf), axis=2)
    longest = np.full((*counts.shape, len(ks)), np.nan)
    for count in np.unique(counts[counts > 0]):
        cells = counts == count
        places = comb(np.arange(count)[:, None], np.array(ks) - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            chances = places / comb(count, np.array(ks))
        longest[cells] = paths[cells][:, :count] @ np.where(np.array(ks) <= count, chances, np.nan)
    return longest
