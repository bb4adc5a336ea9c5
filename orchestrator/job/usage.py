"""What a step holds while it runs, and what that came to: the figures that its costs are reckoned from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from cluster.catalogue import MachineType, in_usd

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


@dataclass(frozen=True)
class Held:
    """What a running attempt at a step holds, and has done with it."""

    devices: float
    """Now."""
    device_seconds: float
    """Since it began."""
    usd: float
    """Since it began."""
    tokens: int | None = None
    """Decoded since it began; None for a step that is not counted in tokens."""
    usd_under_way: Amount = 0.0
    """The most that requests which are under way may still come to, and those that failed and may be charged for."""


class Meter:
    """Adds up what an attempt holds, as devices come and go.

    Each is counted from its grant to its give-back. Either may be known only after a while: `ago` says how long.
    """

    def __init__(self, where: MachineType, clock: Callable[[], float] = time.monotonic):
        self._where = where
        self._clock = clock
        self._since = clock()
        self._devices = self._device_seconds = self._usd = 0.0
        self._tokens: int | None = None

    def take(self, devices: float, ago: float = 0.0) -> None:
        """So many more were granted, `ago` seconds ago."""
        self._add_up()
        self._device_seconds += devices * ago
        before, self._devices = self._devices, self._devices + devices
        self._usd += self._where.usd(self._devices, ago) - self._where.usd(before, ago)

    def give_back(self, devices: float) -> None:
        """So many are no longer held."""
        self._add_up()
        self._devices -= devices

    def decoded(self, tokens: int) -> None:
        """So many more tokens were."""
        self._tokens = (self._tokens or 0) + tokens

    def _add_up(self) -> None:
        now = self._clock()
        passed, self._since = now - self._since, now
        self._device_seconds += self._devices * passed
        self._usd += self._where.usd(self._devices, passed)

    @property
    def held(self) -> Held:
        """Up to now."""
        self._add_up()
        return Held(self._devices, self._device_seconds, self._usd, self._tokens)


@dataclass(frozen=True)
class Spending:
    """What a step costs, all attempts at it together."""

    seconds: Amount
    """That it ran."""
    device_seconds: Amount
    usd: Amount
    device: str
    """``GPU``, or ``core``."""
    tokens: float | None = None
    """Decoded; None for a step that is not counted in tokens."""

    @property
    def seconds_per_token(self) -> float | None:
        """Device-seconds; None where there are no tokens."""
        return self.device_seconds / self.tokens if self.tokens else None


def against(expected: Spending, spent: Spending) -> str:
    """An estimate beside the outcome, and how many times too high it was: by tokens, by seconds per token, and by the
    device-seconds that are their product, so that it shows which of them was off."""
    ratios = ", ".join(f"{ratio:.2f} times {what}" for what, ratio in _ratios(expected, spent))
    return f"estimated {_in_words(expected)}; took {_in_words(spent)}: {ratios}"


def _in_words(what: Spending) -> str:
    each = what.seconds_per_token
    tokens = "" if each is None else f"{what.tokens:,.0f} tokens at {each:.2g} {what.device}-seconds, "
    return f"{tokens}{what.device_seconds:,.0f} {what.device}-seconds held, {in_usd(what.usd)}"


def _ratios(expected: Spending, spent: Spending) -> Iterator[tuple[str, float]]:
    if expected.tokens and spent.tokens:
        yield "the tokens", expected.tokens / spent.tokens
        if expected.seconds_per_token and spent.seconds_per_token:
            yield "the seconds per token", expected.seconds_per_token / spent.seconds_per_token
    if spent.device_seconds:
        yield "the time held", expected.device_seconds / spent.device_seconds
    if spent.usd:
        yield "the cost", expected.usd / spent.usd
