"""What a gang holds, told while it runs: nothing while it waits for its machines, and all of it from then to its end.

Ray Train waits for the machines by itself, and does not say when it has them. So it is noted when each placement group
of the cluster came to be, and counted from there once a worker says which of them is the gang's. While it waits, what
gangs hold whose coordinator was killed is given back, again and again: that one was killed shows only after a while.

    with held(meter, tell, placed):
        trainer.fit()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ray.exceptions import RayError
from ray.util.placement_group import placement_group_table

from jobs.turns import release_abandoned
from orchestrator.holdings import Held, Meter
from orchestrator.places import StoreError

EVERY = 1.0
"""Seconds between looks."""


@dataclass(frozen=True)
class Placed:
    """A gang that has its machines."""

    group: str
    """The id of its placement group, in hexadecimal."""
    devices: float


@contextmanager
def held(meter: Meter, tell: Callable[[Held], None], placed: Callable[[], Placed | None]) -> Iterator[None]:
    """Counts what a gang holds that starts now and has ended when this is left; `placed` says what it has, once one of
    its workers has begun."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(ended, meter, tell, placed), name="holding", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        meter.hold(0)
        tell(meter.held)


def _watch(
    ended: threading.Event, meter: Meter, tell: Callable[[Held], None], placed: Callable[[], Placed | None]
) -> None:
    since: dict[str, float] = {}
    gang = None
    while not ended.wait(EVERY):
        try:
            if gang is None:
                release_abandoned()
                now = time.monotonic()
                since |= {group: now for group in _created() if group not in since}
                if (gang := placed()) is not None:
                    meter.hold(gang.devices, since=now - since.get(gang.group, now))
            tell(meter.held)
        except (StoreError, RayError) as error:  # whoever needs the store or the cluster to go on fails by itself
            print(error, flush=True)


def _created() -> list[str]:
    """The placement groups of the cluster that have their resources, by id."""
    return [group for group, told in placement_group_table().items() if told["state"] == "CREATED"]
