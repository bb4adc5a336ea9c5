"""What a sweep is charged for, against a clock of its own: how long Ray's head counts its resources as taken."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.catalogue import machine
from jobs.evaluate.decode.forecast import Progress
from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Work
from jobs.evaluate.traces.files import Index
from orchestrator.job.errors import StepError
from orchestrator.job.usage import Held, Meter
from tests.evaluate import scripted
from tests.evaluate.decode.test_pool import CPU, SCRIPT, pids, quiet, resources, spec, units, untold
from tests.ray_cluster import CPUS

pytestmark = pytest.mark.usefixtures("cluster")
WHERE = machine("cpu")


class Clock:
    """Adds up the cores that Ray's head says are taken, many times a second."""

    def __init__(self) -> None:
        self.core_seconds = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Clock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + 60
        while ray.available_resources().get("CPU") != CPUS:
            assert time.monotonic() < deadline, "resources are still held"
            time.sleep(0.02)
        time.sleep(0.1)
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(0.05):
            taken = CPUS - ray.available_resources().get("CPU", 0.0)
            now = time.monotonic()
            self.core_seconds += taken * (now - last)
            last = now


def agrees(held: Held, clock: Clock) -> None:
    assert held.devices == 0
    assert held.device_seconds == pytest.approx(clock.core_seconds, rel=0.05)
    assert held.usd == pytest.approx(WHERE.usd(1, held.device_seconds))


async def start_slowly(folder: Path, seconds: float, delay: float) -> scripted.ScriptedEngine:
    """Loading holds the replica's only thread, as loading does."""
    time.sleep(seconds)
    return await scripted.start(pids(folder), SCRIPT, delay=delay)


def test_waiting_is_not_paid_and_all_is_from_the_grant_on(tmp_path: Path) -> None:
    others = placement_group([CPU] * CPUS)
    ray.get(others.ready())
    freed = threading.Timer(6, lambda: remove_placement_group(others))
    freed.start()
    meter, began = Meter(WHERE), time.monotonic()
    start = partial(start_slowly, tmp_path, 3.0, 0.02)
    work = [Work(unit) for unit in units(16)]
    own, index = spec(tmp_path, start), Index(tmp_path, quiet)
    told: list[tuple[float, float]] = []

    def tell(progress: Progress) -> None:
        told.append((time.monotonic() - began, meter.held.device_seconds))

    decode(work, own, index, resources(1), CPU, "waits", tell, meter=meter, devices=1)
    whole = time.monotonic() - began
    assert {paid for seconds, paid in told if seconds < 5} == {0.0}
    assert 0.95 * (whole - 7) < meter.held.device_seconds < whole - 5.9


def test_a_sweep_that_fails_has_paid_until_everything_is_given_back(tmp_path: Path) -> None:
    meter = Meter(WHERE)
    own, work = spec(tmp_path, partial(fail_late, 5.0)), [Work(units(1)[0])]
    index = Index(tmp_path, quiet)
    with Clock() as clock, pytest.raises(StepError, match="out of memory"):
        decode(work, own, index, resources(), CPU, "vain", untold, meter=meter, devices=1)
    agrees(meter.held, clock)
    assert meter.held.device_seconds > 5


async def fail_late(seconds: float) -> scripted.ScriptedEngine:
    time.sleep(seconds)
    return await scripted.start_in_vain()
