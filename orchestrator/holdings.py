"""What a step holds while it runs, and what that came to: the figures that its costs are reckoned from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


@dataclass(frozen=True)
class Held:
    """What a running attempt at a step holds."""

    devices: float
    """Now."""
    device_seconds: float
    """Since it began."""


class Meter:
    """Adds up what an attempt holds, as devices come and go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since = clock()
        self._held = Held(0.0, 0.0)
        self.most = 0.0
        """Devices that were held at once."""

    def hold(self, devices: float, since: float = 0.0) -> None:
        """From now on it is so many; `since` seconds ago already, where there were none until then."""
        self._held, self._since = replace(self.held, devices=devices), self._clock() - since
        self.most = max(self.most, devices)

    @property
    def held(self) -> Held:
        more = self._held.devices * (self._clock() - self._since)
        return replace(self._held, device_seconds=self._held.device_seconds + more)


@dataclass(frozen=True)
class Spending:
    """What a step costs, all attempts at it together."""

    seconds: Amount
    """That it ran."""
    device_seconds: Amount
    usd: Amount
    device: str
    """``GPU``, or ``core``."""
