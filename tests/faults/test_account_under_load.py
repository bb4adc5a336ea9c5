"""What a sweep is charged for, against a clock of its own, on a machine whose cores are busy with something else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Work
from jobs.evaluate.traces.files import Index
from orchestrator.job.usage import Meter
from tests.evaluate.decode.test_held import WHERE, Clock, agrees, start_slowly
from tests.evaluate.decode.test_pool import CPU, quiet, resources, spec, units, untold
from tests.ray_cluster import ray_cluster


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


@contextmanager
def busy(processes: int = 2) -> Iterator[None]:
    """Keeps the machine's cores busy with something else."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


@pytest.mark.parametrize("replicas", [1, 2])
def test_under_load_the_account_agrees_with_the_clock_loading_included(tmp_path: Path, replicas: int) -> None:
    meter = Meter(WHERE)
    start = partial(start_slowly, tmp_path, 5.0, 0.05)
    work = [Work(unit) for unit in units(16)]
    with busy(), Clock() as clock:
        own, index = spec(tmp_path, start), Index(tmp_path, quiet)
        found = decode(work, own, index, resources(replicas), CPU, "clock", untold, meter=meter, devices=1)
    agrees(meter.held, clock)
    assert meter.held.tokens == found.tokens > 0
    assert meter.held.device_seconds > 5 * replicas
