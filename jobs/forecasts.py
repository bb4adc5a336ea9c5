"""What a step will have made, as far as its config tells: what estimates of later steps rest on.

A kind of step gives one as ``Job.forecast``. Whoever plans a later step asks for the forecast of the kind of output
that it takes, never for the job that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.architecture import Architecture


@dataclass(frozen=True)
class ThinkingForecast:
    """Mean tokens of a trace, by a model that learned from the dataset."""

    natural: float
    """Until thinking ends by itself."""
    extension: float
    """More, after each extension."""
    answer: float
    source: str
    """Where they are from, in a few words."""
    step: float = 100
    """Of a step, where thinking has steps: what the s1 paper takes one for."""


@dataclass(frozen=True)
class DatasetForecast:
    """A dataset that is not there yet. What is not known is None."""

    samples: int | None = None
    """Rows to learn from."""
    tokens_per_sample: float | None = None
    """With their chat markers, in the vocabulary of the models that learn from it."""
    questions: int | None = None
    """To be asked."""
    thinking: ThinkingForecast | None = None


@dataclass(frozen=True)
class ModelForecast:
    """A model that is not there yet."""

    architecture: Architecture
    tokenizer: Callable[[], Any | None]
    """Loads the tokenizer that it will have; gives None where this machine does not have it. Raises StepError."""
