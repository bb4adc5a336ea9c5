"""The fields of a ``letters`` step: how many traces to train on, how many held-out questions to test with."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from jobs.forecasts import ThinkingForecast
from orchestrator.job.config import StepConfig
from orchestrator.job.outputs import Dataset, Output

THINKING = ThinkingForecast(natural=13, extension=21, answer=16, source="the built-in task", step=14)
"""Of the models that ``experiments/scaling_sweep.yaml`` trains."""


class LettersConfig(StepConfig):
    """A dataset of the built-in task."""

    VERSION: ClassVar[int] = 1
    PRODUCES: ClassVar[type[Output]] = Dataset

    train: int = Field(ge=1, le=10**8, description="questions with a reasoning trace")
    test: int = Field(default=200, ge=1, le=10**6, description="distinct questions about words that training never has")
    seed: int = Field(default=0, ge=0, lt=2**31)
    # Left out where it is false: datasets of before are the same ones.
    labelled: bool = Field(
        default=False,
        exclude_if=lambda labelled: not labelled,
        description="traces as far as some pass, each answered with whether it was right: + or -, to train a scorer on",
    )

    def describe(self) -> str:
        """``64000 traces, 200 test questions``."""
        return f"{self.train} {'labelled ' * self.labelled}traces, {self.test} test questions"
