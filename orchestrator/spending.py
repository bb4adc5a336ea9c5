"""What steps cost: devices held, times seconds, at the price of their machine in the catalogue.

The run keeps one account per step, in ``spent.json`` of its folder. It goes on from where the last attempt, or the last
run, left it, and is written every :data:`SAVE_EVERY` seconds, so that a run that is killed loses no more than that. A
step whose replicas come and go, or whose gang waits for its machines, says what it holds (:class:`Meter`); any other
holds what it demands for as long as it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from cluster.catalogue import MachineType, in_usd
from orchestrator.job.config import StepConfig
from orchestrator.job.estimate import Estimate
from orchestrator.job.usage import Spending, against
from orchestrator.store.records import read_note, write_note
from orchestrator.store.step_folders import StepFolder

SPENT = "spent.json"
BEGAN = "began.json"
"""What it had come to when the last attempt began."""
EXPECTED = "expected.json"
"""What the plan said before the step first ran."""

SAVE_EVERY = 2.0

LOOK_SECONDS = 2.0
"""Between two looks at what running steps cost: at most, on a machine that is not busy."""
GIVE_BACK_SECONDS = 5.0
"""From the moment that a step is told to stop until nothing is held for it any more."""

_HELD = ("devices", "device_seconds", "usd", "tokens")
""":class:`orchestrator.job.usage.Held`'s fields."""


def spent(folder: StepFolder) -> Spending | None:
    """What all attempts at a step have cost so far; None where it never ran."""
    return read_note(folder.path / SPENT, Spending, "what the step cost before is not counted")


def expected(folder: StepFolder) -> Spending | None:
    """What was expected of the step before it first ran; None where that was not known."""
    return read_note(folder.path / EXPECTED, Spending, "what was expected of the step is not known")


def expect(folder: StepFolder, estimate: Estimate) -> None:
    """Keeps an estimate to be compared with what the step comes to, unless the step was begun before."""
    if estimate.seconds is None or estimate.device_hours is None or estimate.usd is None or spent(folder) is not None:
        return
    what = Spending(estimate.seconds, 3600 * estimate.device_hours, estimate.usd, estimate.device, estimate.tokens)
    write_note(folder.path / EXPECTED, asdict(what))


def compared(folder: StepFolder) -> str:
    """How a step's estimate was, in words (:func:`against`); empty where there was none, or nothing was spent."""
    before, after = expected(folder), spent(folder)
    return "" if before is None or after is None or not after.device_seconds else against(before, after)


class Account:
    """Adds up what one step costs while it runs."""

    def __init__(self, folder: StepFolder, config: StepConfig, clock: Callable[[], float] = time.monotonic):
        self._folder = folder
        self._where: MachineType = config.machine
        self._holds = config.holds()
        self._most = config.holds_at_most()
        self._clock = clock
        self.spending = spent(folder) or Spending(0.0, 0.0, 0.0, self._where.device)
        self._before = self.spending
        self._began = self._heard = self._saved = clock()
        self._told: Mapping[str, Any] = {}
        self._stale: Mapping[str, Any] = {}

    def start(self) -> None:
        """An attempt begins: what an earlier one said of itself no longer counts.

        But where the run was killed with it, what it had said last is more than what was written down, and requests
        that were under way may be charged for.
        """
        statement = self._what_it_says()
        began = read_note(self._folder.path / BEGAN, dict[str, float], "what a killed run spent last is not counted")
        if statement and began:
            usd = began["usd"] + statement["usd"] + self._under_way(statement)
            self.spending = replace(self.spending, usd=max(self.spending.usd, usd))
            self._folder.forget_held()
            self.save()
        write_note(self._folder.path / BEGAN, {"usd": self.spending.usd})
        self._began = self._heard = self._saved = self._clock()
        self._before = self.spending
        self._told = self._stale = self._what_it_says()

    def _what_it_says(self) -> Mapping[str, Any]:
        """Of itself; nothing where its config says it."""
        return {} if self._holds else self._folder.read_held()

    def tick(self) -> None:
        """Counts up to now."""
        now = self._clock()
        if (statement := self._what_it_says()) and statement != self._told:
            self._told, self._heard = statement, now
        # What it last said it held is held until it says otherwise: it may be long in giving back, or killed.
        devices, device_seconds, usd, tokens, since = self._holds, 0.0, 0.0, None, self._began
        if self._told != self._stale:
            devices, device_seconds, usd, tokens = (self._told[name] for name in _HELD)
            since = self._heard
        before = self._before
        self.spending = replace(
            before,
            seconds=before.seconds + now - self._began,
            device_seconds=before.device_seconds + device_seconds + devices * (now - since),
            usd=before.usd + usd + self._where.usd(devices, now - since),
            tokens=before.tokens if tokens is None else (before.tokens or 0) + tokens,
        )
        if now - self._saved > SAVE_EVERY:
            self.save()

    def ahead(self, seconds: float) -> float:
        """USD that it may come to in so many more seconds, and by what it has under way."""
        statement = self._told if self._told != self._stale else {}
        return self._where.usd(self._most, seconds) + self._under_way(statement)

    def stop(self) -> None:
        """The attempt has ended. What requests come to that were cut off, nobody says: they count at their most."""
        self.tick()
        if self._told != self._stale and (under_way := self._under_way(self._told)):
            self.spending = replace(self.spending, usd=self.spending.usd + under_way)
            self._folder.forget_held()
        self.save()

    @staticmethod
    def _under_way(statement: Mapping[str, Any]) -> float:
        return float(statement.get("usd_under_way", 0.0))

    def save(self) -> None:
        """Writes the account down."""
        self._saved = self._clock()
        write_note(self._folder.path / SPENT, asdict(self.spending))


class OverCost(Exception):
    """The experiment would pass its ``max_cost``."""


_CONTINUES = "what is done is kept, and the same command with a larger max_cost continues"


class Accounts:
    """The accounts of a run's steps, against what they may come to together.

    What runs cannot be given back at once. So it is stopped while there is still money for what all running steps may
    hold until the next look, and until it is given back.
    """

    def __init__(
        self,
        steps: Mapping[str, tuple[StepFolder, StepConfig]],
        max_cost: float | None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._accounts = {name: Account(folder, config, clock) for name, (folder, config) in steps.items()}
        self._max_cost = max_cost
        self._clock = clock
        self._running: set[str] = set()
        self._looked: float | None = None
        self._between = LOOK_SECONDS
        """From the last look but one to the last, at least."""

    def start(self, step: str) -> None:
        """An attempt at a step begins. Raises OverCost where there is no money for its first seconds."""
        self.check(step)
        self._accounts[step].start()
        self._running.add(step)

    def stop(self, step: str) -> None:
        """It has ended."""
        self._running.remove(step)
        self._accounts[step].stop()

    def left(self) -> float | None:
        """USD that `max_cost` leaves to a step which is about to start; None where there is none."""
        if self._max_cost is None:
            return None
        spent = sum(account.spending.usd for account in self._accounts.values())
        return max(0.0, self._max_cost - spent - self._ahead(self._running))

    def _ahead(self, names: Collection[str]) -> float:
        seconds = self._between + GIVE_BACK_SECONDS
        return sum(self._accounts[name].ahead(seconds) for name in names)

    def tick(self, step: str) -> None:
        """Counts what a running step holds."""
        self._accounts[step].tick()

    def check(self, *starting: str) -> None:
        """Raises OverCost where all steps, those that were done before included, would pass `max_cost` before what is
        running, and `starting`, could be given back."""
        now = self._clock()
        if self._running:
            self._between = max(LOOK_SECONDS, now - (now if self._looked is None else self._looked))
        self._looked = now
        if self._max_cost is None:
            return
        total = sum(account.spending.usd for account in self._accounts.values())
        more = self._ahead({*self._running, *starting})
        if total >= self._max_cost or total + more > self._max_cost:
            committed = f", and {in_usd(more)} would be before what runs is given back" if more else ""
            raise OverCost(f"max_cost: {in_usd(total)} of {in_usd(self._max_cost)} is spent{committed}; {_CONTINUES}")

    def out_of_money(self, step: str, why: str) -> OverCost:
        """What ends the run where a step says that it would pass `max_cost`."""
        return OverCost(f"max_cost: {in_usd(self._max_cost or 0.0)}: {step}: {why}; {_CONTINUES}")
