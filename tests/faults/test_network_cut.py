"""Machines that lose sight of each other for a while: they have addresses and cables of their own.

    make test-faults

Needs root and iproute2, which a machine that has nothing but Python may not have; so `make test` leaves it out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray

from benchmarks.chaos import VICTIMS, Run, Totals, compare, undisturbed, wait
from benchmarks.network import NetworkMachine, wired_cluster
from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Work
from jobs.evaluate.resources import EvaluateResources, Replicas
from jobs.evaluate.traces.files import Index
from orchestrator.job.retries import Retries
from tests.evaluate import scripted
from tests.evaluate.decode.test_pool import CPU, SCRIPT, assert_every_leaf_is_there, pids, quiet, spec, units, untold

CUT_SECONDS = 12.0
"""Longer than the pool takes to give a machine up, shorter than Ray does."""
LONG_CUT_SECONDS = 30.0


@pytest.fixture
def wired() -> Iterator[list[NetworkMachine]]:
    with wired_cluster(2) as machines:
        yield machines


def test_a_machine_that_is_out_of_sight_for_a_while_loses_its_units_and_nothing_else(
    wired: list[NetworkMachine], tmp_path: Path
) -> None:
    lost: list[Mapping[str, int]] = []
    resources = EvaluateResources(
        replicas=Replicas(min=2, max=2), in_flight=8, retries=Retries(preempted=1, infrastructure=0)
    )
    start = partial(scripted.start, pids(tmp_path), SCRIPT, delay=0.02)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(
            decode,
            [Work(unit) for unit in units(120)],
            spec(tmp_path, start),
            Index(tmp_path, quiet),
            resources,
            CPU,
            "cut",
            untold,
            lambda counts, reason: lost.append(counts),
        )
        while len(list(tmp_path.glob("*.parquet"))) < 6:
            assert not running.done(), running.exception()
            time.sleep(0.05)
        replicas = [int(file.name) for file in pids(tmp_path).iterdir()]
        assert len(replicas) == 2
        wired[0].unplug()
        time.sleep(CUT_SECONDS)
        wired[0].plug_in()
        running.result(timeout=120)
    assert_every_leaf_is_there(tmp_path, units(120))
    assert lost == [{"preempted": 1}]
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(int(file.name)) for file in pids(tmp_path).iterdir()):
        assert time.monotonic() < deadline, "a replica is still there"
        time.sleep(0.2)


def test_an_experiment_ends_as_ever_whose_machine_is_out_of_sight_for_half_a_minute_as_it_trains_and_as_it_decodes(
    tmp_path: Path,
) -> None:
    expected, _ = undisturbed(tmp_path / "undisturbed")
    with wired_cluster(3) as machines:
        run = Run(tmp_path / "cut", {"RAY_ADDRESS": ray.get_runtime_context().gcs_address})
        for step, done, victim in (("tiny", 20, "worker"), ("sweep", 3, "engine")):
            run.until(step, done)
            machine = next(machine for machine in machines if machine.runs(VICTIMS[victim]))
            machine.unplug()
            time.sleep(LONG_CUT_SECONDS)
            machine.plug_in()
        wait(run)
        deadline = time.monotonic() + 60
        while any(machine.runs(VICTIMS[victim]) for machine in machines for victim in ("worker", "engine")):
            assert time.monotonic() < deadline, "something is still there"
            time.sleep(0.2)
    assert run.starts == 1, (run.folder / "output.txt").read_text()
    totals = Totals()
    compare(expected, run.results(), totals)
    assert (totals.lost, totals.duplicated, totals.differing) == (0, 0, 0)
