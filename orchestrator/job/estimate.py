"""What a step would take, told before anything starts: memory, time and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


FitVerdict = Literal["fits", "barely fits", "does not fit"]


_AT_THE_EDGE = 0.95
"""Share of the memory from which fragmentation decides."""


@dataclass(frozen=True)
class Part:
    """What one part of a step would take by itself, and its share of the step, which does what parts have in common
    once."""

    name: str
    tokens: float
    """Decoded by itself."""
    share: float
    """Of the step's cost, of 1."""
    seconds: float | None = None
    device_hours: float | None = None
    usd: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a step would take, told from its config before anything starts. What is not known is left out."""

    holder: str
    """What `memory` is counted on: ``each of 16 x NVIDIA H100 80 GB``."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """Bytes by what they hold, at the moment when they are the most."""
    moment: str = ""
    """When that is: ``in the loss``."""
    available: float = math.inf
    """Bytes that there are."""
    remedies: tuple[str, ...] = ()
    """Where it does not fit: the nearest settings with which it would, one each."""
    seconds: float | None = None
    device: str = "GPU"
    """What is paid for, in the singular."""
    device_hours: float | None = None
    usd: float | None = None
    tokens: float | None = None
    """To decode, where that is what takes the time."""
    most_seconds: float | None = None
    """Where the time hangs on what nobody knows beforehand: the most that it can be."""
    most_usd: float | None = None
    parts: tuple[Part, ...] = ()
    """What makes up the step, where it has parts that can be told apart, such as a sweep's policies."""
    remarks: tuple[str, ...] = ()
    """What the figures rest on, and what is not known, a sentence each."""

    @property
    def total(self) -> float:
        """Bytes, all together."""
        return sum(self.memory.values())

    @property
    def verdict(self) -> FitVerdict:
        """Whether the memory is enough; barely where fragmentation decides."""
        if self.total > self.available:
            return "does not fit"
        return "barely fits" if self.total > _AT_THE_EDGE * self.available else "fits"
