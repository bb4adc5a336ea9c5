"""What a gang holds, told while it runs: nothing while it waits for its machines, and all of it from then to its end.

Ray Train waits for the machines by itself, and does not say when it has them. But Ray's head knows the gang's placement
group by its name: so whatever groups are called so are counted, from the moment that they were granted until they are
gone, whether or not a worker ever begins. What an earlier gang of that name left, because its process was killed, is
given back before, and what this one leaves, after it.

    with held(name, meter, tell, devices):
        trainer.fit()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from ray.exceptions import RayError

from jobs.gang_scheduling import Granted, granted
from orchestrator.job.groups import remove_groups
from orchestrator.job.usage import Held, Meter
from orchestrator.store.errors import StoreError

EVERY = 1.0
"""Seconds between looks."""
GONE_WITHIN = 30.0
"""Seconds in which what a gang held is given back once it has ended."""


@contextmanager
def held(
    name: str, meter: Meter, tell: Callable[[Held], None], devices: Callable[[Mapping[str, float]], float]
) -> Iterator[None]:
    """Counts what a gang holds that starts now and has ended when this is left. `name` is what the names of its
    placement groups begin with; `devices` says what is paid for of a bundle."""
    remove_groups(name)
    watch = _Watch(name, meter, devices)
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(ended, watch, meter, tell), name="holding", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(RayError):  # a cluster that is lost holds nothing
            remove_groups(name)
            watch.until_gone(GONE_WITHIN)
        tell(meter.held)


class _Watch:
    """Looks at the groups of a name."""

    def __init__(self, name: str, meter: Meter, devices: Callable[[Mapping[str, float]], float]):
        self._name = name
        self._meter = meter
        self._devices = devices
        self._looked = time.monotonic()
        self._counted: dict[str, float] = {}

    @property
    def holds(self) -> bool:
        """Whether anything is held, as of the last look."""
        return bool(self._counted)

    def look(self) -> None:
        """Counts what was granted and given back since the last look."""
        before, self._looked = self._looked, time.monotonic()
        there = granted(self._name)
        for group in there.keys() - self._counted.keys():
            self._counted[group] = sum(map(self._devices, there[group].bundles))
            self._meter.take(self._counted[group], _since(there[group], self._looked - before))
        for group in self._counted.keys() - there.keys():
            self._meter.give_back(self._counted.pop(group))

    def until_gone(self, seconds: float) -> None:
        """Looks until nothing is held any more, for so long at most."""
        deadline = time.monotonic() + seconds
        self.look()
        while self._counted and time.monotonic() < deadline:
            time.sleep(0.1)
            self.look()
        for devices in self._counted.values():  # the next attempt finds them, and counts them on
            self._meter.give_back(devices)


def _since(group: Granted, most: float) -> float:
    """Seconds ago that a group was granted, by the head's clock, which may differ from this machine's."""
    return min(max(0.0, time.time() - group.when), most)


def _watch(ended: threading.Event, watch: _Watch, meter: Meter, tell: Callable[[Held], None]) -> None:
    while not ended.wait(EVERY):
        try:
            watch.look()
            tell(meter.held)
        except (StoreError, RayError) as error:  # whoever needs the store or the cluster to go on fails by itself
            print(error, flush=True)
