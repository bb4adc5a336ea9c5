"""Why a step failed: the cause, by which it is tried again or not, and one line for people."""

from __future__ import annotations

from dataclasses import dataclass

import ray.exceptions

from orchestrator.job.errors import StepError
from orchestrator.job.retries import Cause, OutOfRetries
from orchestrator.store.errors import StoreError, no_space

_INFRASTRUCTURE = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.RayActorError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.RaySystemError,
)


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a step."""

    cause: Cause
    message: str
    """One line."""
    final: bool = False
    """Whether the step has tried as often as it may by itself."""


def cause(error: BaseException) -> BaseException:
    """What a step's task raised, of what ``ray.get`` did."""
    return error.cause if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None else error


def diagnose(error: BaseException) -> Failure:
    """The failure behind an exception that ``ray.get`` raised for a step's task."""
    inner = cause(error)
    first_line = next((line.strip() for line in str(inner).splitlines() if line.strip()), "no message")
    if isinstance(inner, StepError):
        return Failure("configuration", first_line)
    if isinstance(inner, OutOfRetries):
        return Failure(inner.cause, first_line, final=True)
    if isinstance(inner, StoreError):
        return Failure("infrastructure", first_line)
    if (full := no_space(inner)) is not None:
        return Failure("infrastructure", full)
    said = f"{type(inner).__name__}: {first_line}"
    if isinstance(inner, ray.exceptions.NodeDiedError):
        return Failure("preempted", said)
    return Failure("infrastructure" if isinstance(inner, _INFRASTRUCTURE) else "user error", said)
