"""How often a step goes on after it lost something, by what it lost it to.

A machine that a cloud takes back says nothing about the step, and a night on spot machines sees many go. A process
that dies on a machine that is still there may do so again. An error in a job's code, or a step that hangs, nearly
always comes again. So each cause has a budget of its own, in an experiment file::

    resources:
      retries: {preempted: 20, infrastructure: 3, user_error: 0, timeout: 0}

and none of them eats another's. A mistake in the config is never tried again. What counts is spent by the one who
starts again: the run for whole steps, a sweep for its replicas, training for its gang.

Budgets hold for a whole run: what is lost every hour of a night is something to look at, however well it goes on each
time. The pause before going on is for what has just gone wrong several times, so it begins anew after :data:`STEADY`
seconds without a loss, and where there is progress that can be told: a unit of a sweep that is done.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, Field

Cause = Literal["preempted", "infrastructure", "user error", "timeout", "configuration"]

LONGEST_BACKOFF = 60.0
"""Seconds."""

STEADY = 600.0
"""Seconds between two losses after which the second has nothing to do with the first."""


class Retries(BaseModel, extra="forbid", frozen=True, strict=True):
    """How many losses to each cause are made good; one more ends the step."""

    preempted: int = Field(default=20, ge=0, le=1000, description="the machine went away, with or without notice")
    infrastructure: int = Field(default=3, ge=0, le=1000, description="a process died on a machine that is still there")
    user_error: int = Field(default=0, ge=0, le=1000, description="the job's code raised an error")
    timeout: int = Field(default=0, ge=0, le=1000, description="the step took longer than resources.timeout")

    def of(self, cause: Cause) -> int:
        """The budget for `cause`; a mistake in the config has none."""
        return 0 if cause == "configuration" else int(getattr(self, field_of(cause)))


def field_of(cause: Cause) -> str:
    """What the budget of `cause` is called in an experiment file."""
    return cause.replace(" ", "_")


class OutOfRetries(Exception):
    """A budget is spent. Carries the cause, which tells the run not to start over, and one line for people."""

    def __init__(self, cause: Cause, message: str):
        super().__init__(cause, message)
        self.cause: Cause = cause

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass
class Losses:
    """What was lost so far, against what may be."""

    allowed: Retries
    clock: Callable[[], float] = time.monotonic
    counts: Counter[Cause] = field(default_factory=Counter)
    _in_a_row: Counter[Cause] = field(default_factory=Counter)
    _last: dict[Cause, float] = field(default_factory=dict)

    def count(self, cause: Cause) -> bool:
        """Counts a loss. Whether its budget allows to go on."""
        now = self.clock()
        if now - self._last.get(cause, now) > STEADY:
            self._in_a_row[cause] = 0
        self._last[cause] = now
        self._in_a_row[cause] += 1
        self.counts[cause] += 1
        return self.counts[cause] <= self.allowed.of(cause)

    def progressed(self) -> None:
        """Something that was asked for is done: the next loss is the first since."""
        self._in_a_row.clear()

    def so_far(self, cause: Cause) -> str:
        """``preempted 2 of 20``."""
        return f"{cause} {self.counts[cause]} of {self.allowed.of(cause)}"

    def by_cause(self) -> dict[str, int]:
        """The counts, as a record keeps them."""
        return {str(cause): count for cause, count in self.counts.items()}

    def delay(self, cause: Cause) -> float:
        """Seconds to wait before going on, after the loss that was counted last to `cause`."""
        return backoff(self._in_a_row[cause])


def counted(*several: Mapping[str, int]) -> str:
    """``preempted 2, infrastructure 1``: the sums of counts by cause, as text; empty where there is none."""
    total: Counter[str] = Counter()
    for counts in several:
        total.update(counts)
    return ", ".join(f"{cause} {count}" for cause, count in total.items() if count)


def backoff(attempt: int) -> float:
    """Seconds to wait before restart number `attempt` (from 1): doubling, at most a minute, with half of it random."""
    return min(LONGEST_BACKOFF, 2.0**attempt) * random.uniform(0.5, 1.0)
