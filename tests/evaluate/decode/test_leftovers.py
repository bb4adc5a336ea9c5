"""An engine's process that outlives its replica, and a card that is not free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from jobs.evaluate.decode import leftovers
from jobs.evaluate.decode.leftovers import MARK, end_orphans, wait_for_memory
from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Work
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.traces.files import Index
from tests.evaluate import scripted
from tests.evaluate.decode.test_pool import (
    CPU,
    SCRIPT,
    assert_every_leaf_is_there,
    pids,
    quiet,
    resources,
    spec,
    units,
    untold,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def core() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a process that says that it belongs to a replica."""
    started: list[subprocess.Popen[bytes]] = []

    def start(owner: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(SLEEP, env={**os.environ, MARK: owner}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.seconds
def test_what_a_replica_that_is_gone_left_is_ended_and_nothing_else(
    core: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    own = leftovers._name(psutil.Process())
    living, orphan = core(own), core("999999999-1")
    later = core(f"{os.getpid()}-1")  # an earlier process had the id that this one has now
    odd = core("no number")
    ended = end_orphans()
    assert {orphan.pid, later.pid, odd.pid} <= set(ended)
    assert living.pid not in ended
    assert living.poll() is None
    assert not any(psutil.pid_exists(process.pid) for process in (orphan, later, odd))


async def start_with_a_core(folder: Path, delay: float) -> scripted.ScriptedEngine:
    """An engine whose process, in a session of its own, does not notice that its replica is gone."""
    before = [int(file.name) for file in (folder / "cores").iterdir()]
    alive = [pid for pid in before if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    process = subprocess.Popen(SLEEP, start_new_session=True)
    (folder / "cores" / str(process.pid)).write_text(str(alive))
    engine = await scripted.start(pids(folder), SCRIPT, delay=delay)
    close = engine.close

    async def end() -> None:
        process.kill()
        process.wait()
        await close()

    engine.close = end  # type: ignore[method-assign]
    return engine


@pytest.mark.usefixtures("cluster")
def test_an_engine_process_that_outlives_its_actor_is_ended_before_the_replica_is_replaced(tmp_path: Path) -> None:
    cores = tmp_path / "cores"
    cores.mkdir()
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            time.sleep(0.1)
            if list(tmp_path.glob("*.parquet")):
                killed.extend(int(file.name) for file in pids(tmp_path).iterdir())
                os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    work = [Work(unit) for unit in units(30)]
    own = spec(tmp_path, partial(start_with_a_core, tmp_path, 0.02))
    decode(work, own, Index(tmp_path, quiet), resources(), CPU, "core", untold)
    killer.join()
    assert_every_leaf_is_there(tmp_path, units(30))
    assert len(list(cores.iterdir())) == 2
    # None was alive when another started, and none is now.
    assert {file.read_text() for file in cores.iterdir()} == {"[]"}
    assert not [file.name for file in cores.iterdir() if psutil.pid_exists(int(file.name))]


@pytest.mark.usefixtures("cluster")
def test_what_the_last_replica_left_is_ended_though_nothing_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "cores").mkdir()

    def kill() -> None:
        while not list(tmp_path.glob("*.parquet")):
            time.sleep(0.1)
        for file in pids(tmp_path).iterdir():
            os.kill(int(file.name), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    work = [Work(unit) for unit in units(300)]
    own = spec(tmp_path, partial(start_with_a_core, tmp_path, 0.05))
    with pytest.raises(Exception, match="lost 1 times"):
        decode(work, own, Index(tmp_path, quiet), resources(retries=0), CPU, "last", untold)
    (left,) = (tmp_path / "cores").iterdir()
    assert not psutil.pid_exists(int(left.name))
    assert ray.is_initialized()


class Nvml:
    """NVML, of cards whose used memory falls as it is asked for."""

    class NVMLError(Exception):
        pass

    def __init__(self, used: dict[str, list[float]], holders: dict[str, list[tuple[int, float]]], broken: bool = False):
        self.used, self.holders, self.broken = used, holders, broken

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError("Driver/library version mismatch")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return str(index)

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetMemoryInfo(self, card: str) -> SimpleNamespace:
        series = self.used[card]
        used = series.pop(0) if len(series) > 1 else series[0]
        return SimpleNamespace(total=85e9, used=used, free=85e9 - used)

    def nvmlDeviceGetComputeRunningProcesses(self, card: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in self.holders.get(card, [])]


VISIBLE = {"CUDA_VISIBLE_DEVICES": "3,GPU-abc"}


def test_a_card_whose_memory_is_given_back_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml({"3": [70e9, 40e9, 0.5e9], "GPU-abc": [70e9, 0.5e9]}, {})
    monkeypatch.setattr(leftovers, "pynvml", nvml)
    monkeypatch.setattr(leftovers, "_POLL", 0.01)
    wait_for_memory(VISIBLE, 5)
    assert nvml.used == {"3": [0.5e9], "GPU-abc": [0.5e9]}


def test_a_card_that_stays_full_is_an_error_that_names_who_holds_it(
    monkeypatch: pytest.MonkeyPatch, core: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    holder = core("x")
    holders = {"GPU-abc": [(999999999, 1e9), (holder.pid, 60e9)]}
    monkeypatch.setattr(leftovers, "pynvml", Nvml({"3": [0.0], "GPU-abc": [61e9]}, holders))
    monkeypatch.setattr(leftovers, "_POLL", 0.01)
    with pytest.raises(EngineError) as raised:
        wait_for_memory(VISIBLE, 0.05)
    said = str(raised.value)
    assert said.startswith("GPU GPU-abc: 61.0 of 85.0 GB are in use and were not freed within 0 s, by process ")
    assert f"process {holder.pid} of {psutil.Process().username()} ({sys.executable}" in said
    assert "with 60.0 GB and process 999999999, which is gone or in another container with 1.0 GB" in said
    assert "\n" not in said


def test_a_card_that_nobody_is_seen_to_hold_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "pynvml", Nvml({"3": [61e9], "GPU-abc": [0.0]}, {}))
    monkeypatch.setattr(leftovers, "_POLL", 0.01)
    with pytest.raises(EngineError, match="by nobody that can be seen from here"):
        wait_for_memory(VISIBLE, 0.05)


@pytest.mark.parametrize("nvml", [None, Nvml({}, {}, broken=True)], ids=["not installed", "broken"])
def test_where_nvml_cannot_tell_the_replica_starts(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], nvml: Nvml | None
) -> None:
    monkeypatch.setattr(leftovers, "pynvml", nvml)
    wait_for_memory(VISIBLE, 0.05)
    assert "NVML" in capfd.readouterr().out
