"""What is made of k samples of an item: votes, and choices of one of them, by name.

All are taken from one pool of n samples, at every k up to n. Installed packages add theirs by the entry points of
``scaling_orchestrator.votes``; this project's own (:mod:`jobs.evaluate.stats.elections`) use nothing that they could
not. Light: experiment files are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.evaluate.stats.sample_scores import SCORES
from orchestrator.job.extensions import ExtensionPoint

if TYPE_CHECKING:
    from jobs.evaluate.stats.bounded import Floats
    from jobs.evaluate.stats.elections import Ballots, Elected


@dataclass(frozen=True)
class VoteKind:
    """A way to make one answer of k."""

    of: Callable[[Ballots, Floats | None, Sequence[int], int], Elected]
    """(ballots, scores, ks, seed): what is elected at each of `ks`, which ascend. `scores` are those of the pool's
    samples, ``[items, policies, samples]``, where it takes any; the seed is for what can only be drawn."""
    description: str
    scored: bool = False
    """Whether it takes a score of each sample."""
    oracle: bool = False
    """Whether it takes someone who knows the right answer: then it is a bound, and nothing that a user could have."""
    dense: bool = True
    """Whether every k is as cheap as the few that are shown."""


_OURS = "jobs.evaluate.stats.elections"

VOTES: ExtensionPoint[VoteKind] = ExtensionPoint(
    "scaling_orchestrator.votes",
    VoteKind,
    {name: f"{_OURS}:{name.upper()}" for name in ("pass", "majority", "weighted", "best")},
)
"""By their names in experiment files."""

USUAL = ("pass", "majority")
"""Those of a sweep that names none."""


@dataclass(frozen=True)
class Vote:
    """One of :data:`VOTES`, by one score where it takes any."""

    kind: str
    score: str | None = None

    @property
    def curve(self) -> str:
        """``majority@k``, ``best@k by length``."""
        return self.at("k")

    @property
    def key(self) -> str:
        """In files: ``majority``, ``best_by_length``."""
        return self.kind if self.score is None else f"{self.kind}_by_{self.score}"

    def at(self, k: int | str) -> str:
        """``majority@8``, ``best@8 by length``."""
        return f"{self.kind}@{k}" if self.score is None else f"{self.kind}@{k} by {self.score}"

    @property
    def oracle(self) -> bool:
        """Whether it takes the right answer to have it."""
        return VOTES[self.kind].oracle or (self.score in SCORES and SCORES[str(self.score)].oracle)

    def of(self, ballots: Ballots, ks: Sequence[int], seed: int) -> Elected:
        """What it elects."""
        scores = None if self.score is None or ballots.pool is None else ballots.pool.scores[self.score]
        return VOTES[self.kind].of(ballots, scores, ks, seed)


def spelled(kinds: Sequence[str], scores: Sequence[str]) -> tuple[Vote, ...]:
    """Every vote of `kinds`, and each that takes a score with every one of `scores`."""
    return tuple(
        vote
        for kind in kinds
        for vote in ([Vote(kind, score) for score in scores] if VOTES[kind].scored else [Vote(kind)])
    )


def contradiction(kinds: Sequence[str], scores: Sequence[str], samples: int) -> str | None:
    """Why a sweep cannot have these: ``field: what; remedy``. None where it can."""
    scored = [kind for kind in kinds if kind not in USUAL and VOTES[kind].scored]
    if scored and not scores:
        return f"votes: {scored[0]} goes by a score of each sample: give scores: one or more of {', '.join(SCORES)}"
    if scores and not scored:
        takers = " or ".join(kind for kind in VOTES if VOTES[kind].scored)
        return f"scores: {scores[0]} is taken by no vote: add {takers} to votes, or leave it out"
    if scored and samples < 2:
        return f"votes: {scored[0]} takes several samples of each item, and samples is {samples}: raise it"
    return None
