"""Why a step failed, and whether trying again could help.

Retries go by cause. A machine that went away says nothing about the step, so it is tried again, with backoff. An error
in a job's code, or in what its user asked for, would come again, so it is not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import ray.exceptions

from orchestrator.places import StoreError
from orchestrator.step import StepError

Cause = Literal["infrastructure", "user error", "configuration", "timeout"]

_INFRASTRUCTURE = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.RayActorError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.RaySystemError,
)

LONGEST_BACKOFF = 60.0
"""Seconds."""


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a step."""

    cause: Cause
    message: str
    """One line."""

    @property
    def worth_retrying(self) -> bool:
        return self.cause == "infrastructure"


def diagnose(error: BaseException) -> Failure:
    """The failure behind an exception that ``ray.get`` raised for a step's task."""
    inner = error.cause if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None else error
    first_line = next((line.strip() for line in str(inner).splitlines() if line.strip()), "no message")
    if isinstance(inner, StepError):
        return Failure("configuration", first_line)
    if isinstance(inner, StoreError):
        return Failure("infrastructure", first_line)
    if isinstance(inner, _INFRASTRUCTURE):
        return Failure("infrastructure", f"{type(inner).__name__}: {first_line}")
    return Failure("user error", f"{type(inner).__name__}: {first_line}")


def backoff(attempt: int) -> float:
    """Seconds to wait before restart number `attempt` (from 1): doubling, at most a minute, with half of it random."""
    return min(LONGEST_BACKOFF, 2.0**attempt) * random.uniform(0.5, 1.0)
