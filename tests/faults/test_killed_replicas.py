"""Replicas that are killed again and again, with a real engine, and against a clock."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import ReplicaSpec, Work
from jobs.evaluate.engines.protocol import EngineSpec, Sampling
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, Room, grow
from jobs.evaluate.traces.files import Index, read_tokens
from orchestrator.job.usage import Meter
from tests.evaluate import scripted, tiny
from tests.evaluate.decode.test_held import WHERE, Clock, agrees, start_slowly
from tests.evaluate.decode.test_pool import CPU, INJECTED, POLICIES, pids, quiet, resources, spec, units, untold
from tests.evaluate.scripted import forcing

pytestmark = pytest.mark.usefixtures("cluster")


def test_replicas_that_are_killed_and_those_that_replace_them_are_paid(tmp_path: Path) -> None:
    meter = Meter(WHERE)
    start = partial(start_slowly, tmp_path, 1.0, 0.3)
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while len(killed) < 2 and time.monotonic() < deadline:
            time.sleep(2)
            for file in pids(tmp_path).iterdir():
                if int(file.name) not in killed:
                    os.kill(int(file.name), signal.SIGKILL)
                    killed.append(int(file.name))
                    break

    killer = threading.Thread(target=kill)
    work = [Work(unit) for unit in units(48)]
    with Clock() as clock:
        killer.start()
        own, index = spec(tmp_path, start), Index(tmp_path, quiet)
        decode(work, own, index, resources(2, retries=5), CPU, "killed", untold, meter=meter, devices=1)
        killer.join()
    assert len(killed) == 2
    agrees(meter.held, clock)


def test_a_real_engine_killed_at_random_moments_leaves_the_results_of_an_undisturbed_run(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", context_length=512)
    # In float64, because what shares a batch is another after a kill, and in float32 its rounding tells in the tokens.
    engine = EngineSpec("transformers", str(model), None, "float64", 512, 261, gpus=0, cpus=1)
    start = partial(scripted.start_real, pids(tmp_path), engine)
    close = 260  # </think>
    real = replace(forcing(INJECTED), close=(close,), final=(10, 11), injected={"Wait": (55, 66), "": ()})
    tree = grow(POLICIES, {string: len(ids) for string, ids in real.injected.items()})
    work = [Work(Unit(f"item {number}", 0, (5, 6, 7 + number), Room(400, 20))) for number in range(48)]
    moments = random.Random(3)
    killed: list[int] = []
    finished = threading.Event()

    def kill() -> None:
        while len(killed) < 4 and not finished.is_set():
            for pid in [int(file.name) for file in pids(tmp_path).iterdir()]:
                if pid not in killed and not finished.wait(moments.uniform(0.5, 4)):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            finished.wait(0.05)

    def pieces(name: str, retries: int) -> dict[tuple[str, Key], tuple[int, ...]]:
        folder = tmp_path / name
        folder.mkdir()
        own = ReplicaSpec(start, (tree,), real, Sampling(1.0), 7, folder, 16)
        decode(work, own, Index(folder, quiet), resources(in_flight=16, retries=retries), CPU, name, untold)
        index = Index(folder, quiet)
        found: dict[tuple[str, Key], tuple[int, ...]] = {}
        for unit in (one.unit for one in work):
            rows = sorted(index.unit(unit.item, 0).rows, key=lambda row: row.start)
            for row, tokens in zip(rows, read_tokens(index.places(rows)), strict=True):
                found[unit.item, row.key] = found.get((unit.item, row.key), ()) + tokens
        return found

    undisturbed = pieces("undisturbed", retries=0)
    for file in pids(tmp_path).iterdir():
        file.unlink()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        disturbed = pieces("disturbed", retries=5)
    finally:
        finished.set()
        killer.join()
    assert len(killed) >= 2
    assert disturbed == undisturbed
