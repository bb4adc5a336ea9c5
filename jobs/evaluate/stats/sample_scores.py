"""Scores of single samples, by name: what weighted votes and the best of n go by.

A score is a function of the rows of ``samples.parquet``, one number of at least 0 for each, more being better. Here
are those that cost nothing: the sample's length, its verdict. Installed packages add theirs by the entry points of
``scaling_orchestrator.scores``. Light: experiment files are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.job.extensions import ExtensionPoint

if TYPE_CHECKING:
    import pandas as pd

    from jobs.evaluate.stats.bounded import Floats


@dataclass(frozen=True)
class SampleScore:
    """A number of each sample."""

    of: Callable[[pd.DataFrame], Floats]
    """Of rows of ``samples.parquet``, ``[rows]``: finite, and 0 or more."""
    description: str
    columns: tuple[str, ...]
    """Those of the samples that it looks at."""
    oracle: bool = False
    """Whether it knows the right answer."""


SCORES: ExtensionPoint[SampleScore] = ExtensionPoint(
    "scaling_orchestrator.scores",
    SampleScore,
    {
        "exact": SampleScore(
            lambda rows: (rows["verdict"] == "correct").to_numpy().astype("float64"),
            "the grader's verdict: an upper bound for all others",
            ("verdict",),
            oracle=True,
        ),
        "length": SampleScore(
            lambda rows: 1 / (1 + rows["thinking_tokens"].to_numpy(dtype="float64")),
            "shorter thinking is better",
            ("thinking_tokens",),
        ),
    },
)
"""By their names in experiment files."""
