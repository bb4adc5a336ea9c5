"""What a replica leaves on its machine when it is killed, and that it is gone before another takes its place.

An engine's processes are children of their replica and end with it, as a rule. One that does not (because it hangs in a
kernel, or waits for another) keeps its card's memory, and the next replica on that card finds too little of it. So each
replica marks its processes, by a variable in their environment that names the replica's own, and

- :func:`end_orphans` ends those on this machine whose replica is gone, of whatever run. It is called there as soon as
  a replica is lost, and by each replica before it loads;
- :func:`wait_for_memory` waits until the cards that this process was given are free, as NVML sees them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from jobs.evaluate.engines.protocol import EngineError

try:
    import pynvml
except ImportError:  # Comes with vLLM's CUDA build; machines without GPUs have no use for it.
    pynvml = None

MARK = "SCALING_ORCHESTRATOR_REPLICA"
"""The variable: the replica's process id, and when that process began."""
FREE_SHARE = 0.95
"""Of a card's memory: what an engine takes of it, and nothing but the driver's own is in the rest."""
FREE_SECONDS = 60.0
"""Within which a card must be free. A driver takes seconds to give back what a killed process had."""
END_SECONDS = 30.0
"""Within which a killed process must be gone."""
_POLL = 0.5


def mark() -> None:
    """Has the processes that this one starts from now on know whose they are."""
    os.environ[MARK] = _name(psutil.Process())


def end_orphans() -> list[int]:
    """Ends the processes of replicas that are gone, on this machine. Returns their ids.

    Raises EngineError where one of them does not go: it is in the kernel, and only a restart of the machine helps.
    """
    orphans = list(_orphans())
    for process in orphans:
        print(f"process {process.pid} outlived its replica, and is ended", flush=True)
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(orphans, END_SECONDS)
    if left := [process for process in alive if _runs(process)]:
        raise EngineError(
            f"{_described(left[0])} outlived its replica and cannot be killed within {END_SECONDS:.0f} s: restart the "
            "machine, or leave it out"
        )
    return [process.pid for process in orphans]


def wait_until_gone(process: int) -> None:
    """Waits for a process that was killed, for a while."""
    with suppress(psutil.Error):  # it is gone already, or is not within that time
        psutil.Process(process).wait(END_SECONDS)


def _orphans() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or another user's
            owner = process.environ().get(MARK)
            if owner is not None and _runs(process) and not _lives(owner):
                yield process


def _lives(owner: str) -> bool:
    try:
        process = psutil.Process(int(owner.partition("-")[0]))
        return _runs(process) and _name(process) == owner
    except (psutil.NoSuchProcess, ValueError):
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    """Of a process, and of no later one with its id. By the kernel's own count: a wall clock may be set."""
    try:
        began = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        began = str(process.create_time())
    return f"{process.pid}-{began}"


def wait_for_memory(environment: Mapping[str, str] = os.environ, seconds: float = FREE_SECONDS) -> None:
    """Waits until the cards of CUDA_VISIBLE_DEVICES are free.

    Raises EngineError, saying who holds the memory, when one is not within `seconds`. Where NVML cannot tell, it says
    so and leaves it at that.
    """
    if pynvml is None:
        print("NVML is not installed (nvidia-ml-py): whether the GPUs are free is not known", flush=True)
        return
    deadline = time.monotonic() + seconds
    try:
        pynvml.nvmlInit()
        cards = {name: _card(name) for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()}
        for name, card in cards.items():
            while (memory := pynvml.nvmlDeviceGetMemoryInfo(card)).free < FREE_SHARE * memory.total:
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"GPU {name}: {memory.used / 1e9:.1f} of {memory.total / 1e9:.1f} GB are in use and were not "
                        f"freed within {seconds:.0f} s, by {_holders(card)}: end that, or run elsewhere"
                    )
                time.sleep(_POLL)
    except pynvml.NVMLError as error:
        print(f"NVML cannot tell whether the GPUs are free: {error}", flush=True)


def _card(name: str) -> Any:
    """NVML's handle of a card by its number, or by its id (``GPU-…``, ``MIG-…``)."""
    name = name.strip()
    return pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID(name)


def _holders(card: Any) -> str:
    """Who is on a card, the largest first."""
    processes = sorted(
        pynvml.nvmlDeviceGetComputeRunningProcesses(card), key=lambda each: each.usedGpuMemory or 0, reverse=True
    )
    if not processes:
        return "nobody that can be seen from here (a process of another container, or one that is being ended)"
    return " and ".join(f"{_of_id(each.pid)} with {(each.usedGpuMemory or 0) / 1e9:.1f} GB" for each in processes)


def _of_id(pid: int) -> str:
    try:
        return _described(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return f"process {pid}, which is gone or in another container"


def _described(process: psutil.Process) -> str:
    """``process 4711 of alice (python -m vllm …)``."""
    try:
        command = " ".join(process.cmdline()) or process.name()
        return f"process {process.pid} of {process.username()} ({command[:80]})"
    except psutil.Error:
        return f"process {process.pid}"
