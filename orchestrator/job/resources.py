"""Where and how fast a step runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from cluster.catalogue import known_machine
from orchestrator.job.retries import Retries
from orchestrator.job.strict_model import StrictModel

if TYPE_CHECKING:
    pass


DEFAULT_GPU = "h100"
"""What is reckoned with where a step asks for GPUs and does not say which."""


NAMESPACE = "scaling-orchestrator"
"""Ray's, of all runs on a cluster: by it steps know what those of other experiments hold."""


Seconds = Annotated[float, Field(gt=0, le=1e9)]
"""A time to wait for something. Clocks and selectors take no longer ones than decades."""


MOST_AT_ONCE = 10_000
"""Workers or replicas of one step."""


class Resources(StrictModel):
    """Where and how fast a step runs. Never part of its identity."""

    retries: Retries = Field(default=Retries(), description="losses that are made good, by cause")
    timeout: Seconds | None = Field(default=None, description="seconds before the step is stopped")
    wait: Seconds = Field(default=600, description="seconds to wait for what the cluster does not have")
    machine: Annotated[str, AfterValidator(known_machine)] | None = Field(
        default=None, description="what plans and costs assume, such as h100 or p5.48xlarge; else h100, or cpu"
    )
