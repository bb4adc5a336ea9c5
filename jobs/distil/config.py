"""The fields of a ``distil`` step: those of a sweep with one policy, and what is kept of its samples. Light.

Engines, sampling, templates, servers, judges and budget forcing are an ``evaluate`` step's fields, because decoding is
an ``evaluate`` step's: see :class:`jobs.evaluate.config.EvaluateConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jobs.distil.keeping import RULES
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.sweep.kinds import spelled_out
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.values import filled
from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.job.config import HubName, Problem
from orchestrator.job.outputs import Dataset, Output


def _listed(value: Any) -> Any:
    """Questions from one place need no list."""
    return tuple(value) if isinstance(value, list) else (value,)


def _known(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"{name!r} is not a rule: known are {', '.join(RULES)}")
    return name


class DistilConfig(EvaluateConfig):
    """Traces of a teacher."""

    VERSION: ClassVar[int] = 1
    PRODUCES: ClassVar[type[Output]] = Dataset

    tasks: Annotated[tuple[TaskConfig, ...], BeforeValidator(_listed), AfterValidator(filled)] = Field(
        alias="questions", description="${step}, or tasks as an evaluate step names them"
    )
    keep: Annotated[str, AfterValidator(_known)] = Field(
        default="correct", description=f"which samples of a question: {', '.join(RULES)}"
    )
    per_question: int | None = Field(default=None, ge=1, description="at most so many of them; None: all")

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """The one. Where something else is asked for, the budget that a sweep has by default is not."""
        asked = spelled_out(self)
        if "budgets" not in self.model_fields_set:
            asked = tuple(policy for policy in asked if policy != Budget()) or asked
        return asked or (Baseline(),)

    @model_validator(mode="after")
    def _has_one_policy(self) -> Self:
        if len(self.policies) > 1:
            names = ", ".join(policy.name for policy in self.policies[:4])
            raise ValueError(
                f"a teacher thinks in one way, and these are {len(self.policies)} ({names}): give one budget, one "
                "extension with one count, or one effort"
            )
        if self.search is not None:
            raise ValueError("search: a teacher thinks by itself: leave it out")
        if self.published is not None:
            raise ValueError("published: is for sweeps: leave it out")
        return self

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """Those of a sweep."""
        yield from (_renamed(problem) for problem in super().problems(contents))

    def hub_problems(self) -> Iterator[Problem]:
        """Those of a sweep."""
        yield from (_renamed(problem) for problem in super().hub_problems())

    def hub_names(self) -> Iterator[HubName]:
        """Those of a sweep."""
        yield from (_renamed(name) for name in super().hub_names())

    def describe(self) -> str:
        """``200 items x 4 samples, keeps correct``."""
        return f"{super().describe().partition(' x ')[2]}, keeps {self.keep}"


def _renamed(what: Any) -> Any:
    """The same, at the field as it is written."""
    first, *rest = what.field or ("",)
    return replace(what, field=("questions", *rest)) if first == "tasks" else what
