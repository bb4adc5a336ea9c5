"""Clocks that are set while an experiment runs, and clocks of two machines that are apart."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orchestrator.store import leases
from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease, Leases
from orchestrator.store.step_folders import StepFolder, Store
from orchestrator.store.step_leases import leased

HOUR = 3600.0


@contextmanager
def clock_set(by: float, folder: Path) -> Iterator[None]:
    """As after the clock was set: Linux then tells another time of its start, and psutil of every process's."""
    processes = folder / f"proc{by:.0f}"
    (processes / str(os.getpid())).mkdir(parents=True)
    shutil.copy(f"/proc/{os.getpid()}/stat", processes / str(os.getpid()) / "stat")
    started = Path("/proc/stat").read_text().splitlines()
    moved = [f"btime {int(line.split()[1]) + int(by)}" if line.startswith("btime") else line for line in started]
    (processes / "stat").write_text("\n".join(moved) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        now = time.time
        patch.setattr(time, "time", lambda: now() + by)
        patch.setattr(psutil, "PROCFS_PATH", str(processes))
        yield
    psutil.boot_time()  # which it remembers


@pytest.fixture
def folder(tmp_path: Path) -> StepFolder:
    folder = Store(tmp_path / "runs").step("letters", "0" * 16)
    folder.create({})
    return folder


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_run_on_this_machine_is_alive_whatever_the_clock_says(folder: StepFolder, by: float, tmp_path: Path) -> None:
    mine, started = Lease.by_this_process("first"), psutil.Process().create_time()
    folder.acquire(mine)
    with clock_set(by, tmp_path):
        assert folder.live_lease() == mine
        assert psutil.Process().create_time() == pytest.approx(started + by, abs=2)
        with pytest.raises(StoreError, match="is being worked on by run first"):
            folder.acquire(Lease.by_this_process("second"))
        assert folder.renew(mine)
    assert folder.live_lease() == folder.leases.latest()


def elsewhere(run: str, clock: float) -> Lease:
    """Of a machine whose clock is off by so much."""
    return replace(Lease.by_this_process(run), host="another", heartbeat=time.time() + clock)


@pytest.mark.parametrize("clock", [HOUR, -HOUR])
def test_a_live_run_on_a_machine_with_another_clock_is_not_taken_over(
    folder: StepFolder, clock: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.2)
    beating = threading.Event()
    folder.acquire(elsewhere("first", clock))

    def beat() -> None:
        while not beating.wait(0.1):
            folder.leases.acquire(elsewhere("first", clock))

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        with pytest.raises(StoreError, match="clock"), leased([folder], Lease.by_this_process("second")):
            raise AssertionError("taken over")
    finally:
        beating.set()
        heart.join()


@pytest.mark.parametrize("clock", [HOUR, -HOUR])
def test_a_dead_run_of_another_machine_is_looked_at_once_and_taken_over(
    folder: StepFolder, clock: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(leases, "WATCHED", 0.5)
    monkeypatch.setattr(leases, "HEARTBEAT", 0.2)
    folders = [folder, Store(tmp_path / "runs").step("tiny", "1" * 16)]
    folders[1].create({})
    for each in folders:
        each.acquire(elsewhere("first", clock))
    looks: list[str] = []
    beats = Lease.beats

    def look(self: Lease, at: Leases) -> bool:
        looks.append(self.run)
        return beats(self, at)

    monkeypatch.setattr(Lease, "beats", look)
    with leased(folders, Lease.by_this_process("second")):
        assert [each.leases.latest().run for each in folders] == ["second", "second"]
    assert looks == ["first"]
