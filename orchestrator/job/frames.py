"""A finished step's results for Python: pandas frames, whose columns are those of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Frames:
    """What a sweep came to."""

    points: pd.DataFrame
    """The rows of ``table.csv``, one per task and policy: ``accuracy`` with ``accuracy_low`` and ``accuracy_high``,
    ``thinking_tokens`` and so on; with samples, one more for each ``k`` of pass@k and majority@k, which ``score``
    names. ``curve`` is the line of the plot that it is on first."""
    comparisons: pd.DataFrame
    """A row per pair of policies on a task, paired by item: ``difference`` of ``policy`` over ``reference``, with its
    interval and p-values."""
    samples: pd.DataFrame
    """A row per item, sample and policy: its ledger, its answer and the verdict."""
