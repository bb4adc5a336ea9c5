"""What steps cost: devices held, times seconds, at the price of their machine in the catalogue.

The run keeps one account per step, in ``spent.json`` of its folder. It goes on from where the last attempt, or the last
run, left it, and is written every :data:`SAVE_EVERY` seconds, so that a run that is killed loses no more than that. A
step whose replicas come and go, or whose gang waits for its machines, says what it holds (:class:`Meter`); any other
holds what it demands for as long as it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from cluster.machines import Machine, in_usd
from orchestrator.display import duration
from orchestrator.holdings import Held, Spending
from orchestrator.records import read_note, write_note
from orchestrator.step import Estimate, StepConfig
from orchestrator.store import StepFolder

SPENT = "spent.json"
EXPECTED = "expected.json"
"""What the plan said before the step first ran."""

SAVE_EVERY = 2.0


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
    what = Spending(estimate.seconds, 3600 * estimate.device_hours, estimate.usd, estimate.device)
    write_note(folder.path / EXPECTED, asdict(what))


def compared(folder: StepFolder) -> str:
    """How a step's estimate was, in words: ``estimated 47 s, $0.0052; took 29 s, $0.0032: 1.62 times the time, …``;
    empty where there was none."""
    before, after = expected(folder), spent(folder)
    if before is None or after is None or not after.seconds or not after.usd:
        return ""
    time_error, cost_error = before.seconds / after.seconds, before.usd / after.usd
    return (
        f"estimated {duration(before.seconds)}, {in_usd(before.usd)}; took {duration(after.seconds)}, "
        f"{in_usd(after.usd)}: {time_error:.2f} times the time, {cost_error:.2f} times the cost"
    )


class Account:
    """Adds up what one step costs while it runs."""

    def __init__(self, folder: StepFolder, config: StepConfig, clock: Callable[[], float] = time.monotonic):
        self._folder = folder
        self._where: Machine = config.machine
        self._holds = config.holds()
        self._clock = clock
        self.spending = spent(folder) or Spending(0.0, 0.0, 0.0, self._where.device)
        self._seen = self._saved = clock()
        self._counted = 0.0
        self._stale: Mapping[str, Any] = {}

    def start(self) -> None:
        """An attempt begins: what an earlier one said of itself no longer counts."""
        self._seen = self._saved = self._clock()
        self._counted = 0.0
        self._stale = self._told()

    def _told(self) -> Mapping[str, Any]:
        """What the step says of itself; nothing where its config says it."""
        return {} if self._holds else self._folder.read_held()

    def tick(self) -> None:
        """Counts up to now."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        devices, told = self._holds, self._told()
        if told == self._stale:
            used = devices * passed
        else:
            held = Held(told["devices"], told["device_seconds"])
            used, self._counted = max(0.0, held.device_seconds - self._counted), held.device_seconds
            devices = held.devices or (used / passed if passed else 0.0)
        usd = self._where.usd(devices, used / devices) if devices else 0.0
        total = self.spending
        self.spending = replace(
            total,
            seconds=total.seconds + passed,
            device_seconds=total.device_seconds + used,
            usd=total.usd + usd,
        )
        if now - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Writes the account down."""
        self._saved = self._clock()
        write_note(self._folder.path / SPENT, asdict(self.spending))


class OverCost(Exception):
    """The experiment has come to its ``max_cost``."""


class Accounts:
    """The accounts of a run's steps, against what they may come to together."""

    def __init__(self, steps: Mapping[str, tuple[StepFolder, StepConfig]], max_cost: float | None):
        self._accounts = {name: Account(folder, config) for name, (folder, config) in steps.items()}
        self._max_cost = max_cost
        self._running: set[str] = set()

    def start(self, step: str) -> None:
        """An attempt at a step begins."""
        self._accounts[step].start()
        self._running.add(step)

    def stop(self, step: str) -> None:
        """It has ended."""
        self._running.remove(step)
        self._accounts[step].tick()
        self._accounts[step].save()

    def tick(self, step: str) -> None:
        """Counts what a running step holds."""
        self._accounts[step].tick()

    def check(self) -> None:
        """Raises OverCost once all steps, those that were done before included, have come to `max_cost`."""
        total = sum(account.spending.usd for account in self._accounts.values())
        if self._max_cost is not None and total >= self._max_cost:
            raise OverCost(
                f"max_cost: {in_usd(total)} of {in_usd(self._max_cost)} is spent; what is done is kept, and the "
                "same command with a larger max_cost continues"
            )
