"""One pool of samples: what each said, what it scored, and how long it took. Votes and the best of n are taken from it.

Arrays are ``[items, policies, samples]``; a cell that has fewer samples than others is filled up with :data:`NONE`.
Scores come from outside: a score of :data:`jobs.evaluate.stats.sample_scores.SCORES`, or whatever else can say a number
for each row of ``samples.parquet``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.stats.bounded import Floats

CORRECT, BLANK, ERROR, NONE = 0, -1, -2, -3
"""What a sample said, where it is not one of the wrong answers, which count from 1: the right answer; nothing; what
could not be graded; and no sample."""


@dataclass(frozen=True)
class Pool:
    """The samples of one task."""

    said: NDArray[np.int32]
    """:data:`CORRECT`, a wrong answer from 1, :data:`BLANK`, :data:`ERROR` or :data:`NONE`."""
    paths: Floats
    """Tokens that were decoded one after the other until the answer was there."""
    scores: Mapping[str, Floats]
    """By name; 0 or more, and more is better."""

    def __getitem__(self, columns: slice) -> Pool:
        """Of some policies."""
        scores = {name: each[:, columns] for name, each in self.scores.items()}
        return Pool(self.said[:, columns], self.paths[:, columns], scores)

    def with_errors(self, said: NDArray[np.int32] | int) -> Pool:
        """As if each sample with an error had `said` so, ``[items, policies]``."""
        shaped = np.broadcast_to(np.asarray(said, dtype=np.int32)[..., None], self.said.shape)
        return replace(self, said=np.where(self.said == ERROR, shaped, self.said))

    def commonest_wrong(self) -> NDArray[np.int32]:
        """The wrong answer that most samples of a cell gave, ``[items, policies]``; one of its own where none did."""
        flat = self.said.reshape(-1, self.said.shape[2])
        answers = int(flat.max(initial=0)) + 1
        commonest = np.full(len(flat), answers, dtype=np.int32)
        most = np.zeros(len(flat), dtype=np.int64)
        for sample in range(flat.shape[1]):
            said = flat[:, sample]
            votes = (flat == said[:, None]).sum(axis=1)
            more = (said > 0) & (votes > most)
            commonest, most = np.where(more, said, commonest), np.where(more, votes, most)
        return commonest.reshape(self.said.shape[:2])
