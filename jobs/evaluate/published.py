"""Values that others published for a sweep, as the experiment file has them. Light, as all of the config is.

    published:
      source: "Muennighoff et al. 2025, arXiv 2501.19393, table 1"
      accuracy:
        aime24: {auto: 50.0, '2x"Wait"': {accuracy: 53.3, tokens: 6656}}
      methods:
        aime24: {token-conditional: {control: 40, scaling: -24, performance: 40.0}}

Accuracies, Control and Performance are in percent, Scaling in points per doubling of tokens, all as papers print them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.job.strict_model import StrictModel

Percent = Annotated[float, Field(ge=0, le=100)]


class PublishedPoint(StrictModel):
    """What a policy reached. A plain number is its accuracy."""

    accuracy: Percent
    tokens: float | None = Field(default=None, gt=0, description="mean thinking tokens")


class PublishedMethod(StrictModel):
    """What a method was measured to be."""

    control: Percent | None = None
    scaling: float | None = Field(default=None, allow_inf_nan=False, description="points per doubling of tokens")
    performance: Percent | None = None


def _point(value: Any) -> Any:
    return {"accuracy": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


_Point = Annotated[PublishedPoint, BeforeValidator(_point)]


class Published(StrictModel):
    """What to lay beside the results, by task and then by policy, or by method."""

    source: str = Field(min_length=1, description="where the values are printed, and how they were read")
    accuracy: dict[str, dict[str, _Point]] = Field(default={}, description="by task and policy, as tables call them")
    methods: dict[str, dict[str, PublishedMethod]] = Field(default={}, description="by task and method")

    def names(self) -> Iterator[tuple[str, str]]:
        """Every (task, policy or method) that has a value."""
        for named in (self.accuracy, self.methods):
            yield from ((task, name) for task, values in named.items() for name in values)
