"""How long after a machine's death its units decode elsewhere, for ``orchestration.py``.

A sweep on two machines of a Ray cluster: raylets of this machine in network namespaces, which need root. The one that
has more units is lost, in two ways: switched off (everything on it ends, and who calls it is refused), and with its
cable pulled (nobody is refused, nobody is answered). Timed is the moment when an engine on the other machine is asked
for the last of those units that it has room for. Engines are scripted and slow, so that no unit ends before.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.network import NetworkMachine, wired_cluster
from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import ReplicaSpec, Work
from jobs.evaluate.engines.protocol import Chunk, Request, Sampling
from jobs.evaluate.resources import EvaluateResources, Replicas
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.tree import Room, grow
from jobs.evaluate.traces.files import Index

FORCING = Forcing((1,), (2,), (2, 3), frozenset({2}), (4,), {})
IN_FLIGHT = 16
UNITS = 24
"""The machine that is ready first decodes 16 and holds most of the others in reserve; the other has room for more."""
TOKENS, SECONDS = 200, 0.1
"""Of a unit, and of a token."""
PATIENCE = 120.0
WAYS: Mapping[str, Callable[[NetworkMachine], None]] = {
    "switched_off": NetworkMachine.switch_off,
    "cable_pulled": NetworkMachine.unplug,
}


class Slow:
    """Gives a token now and then, and writes down what it is asked for and when."""

    def __init__(self, log: Path):
        self._log = log

    @property
    def cache_tokens(self) -> int | None:
        """As many as are asked for."""
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        with self._log.open("a") as file:
            file.write(f"{time.monotonic()} {request.prompt[0]}\n")
        for left in range(request.max_tokens, 0, -1):
            await asyncio.sleep(SECONDS)
            yield Chunk([9], "length" if left == 1 else None)

    async def close(self) -> None:
        """Nothing is held."""


async def start(logs: Path) -> Slow:
    """For replicas. The log is named by the process."""
    return Slow(logs / str(os.getpid()))


@dataclass(frozen=True)
class Asked:
    """What a replica's engine was asked for."""

    process: int
    units: Mapping[int, float]
    """When, in monotonic seconds, by unit."""


def asked(logs: Path) -> list[Asked]:
    """Of all replicas, the busiest first."""
    found = []
    for log in logs.iterdir():
        lines = [line.split() for line in log.read_text().splitlines()]
        found.append(Asked(int(log.name), {int(unit): float(when) for when, unit in lines}))
    return sorted(found, key=lambda one: -len(one.units))


def seconds_until_elsewhere(way: Callable[[NetworkMachine], None], folder: Path) -> float:
    """Loses a machine in that way; returns how long its units waited."""
    logs = folder / "logs"
    logs.mkdir()
    units = [Work(Unit(f"item {number}", 0, (10 + number, 6), Room(TOKENS, 1))) for number in range(UNITS)]
    tree = grow(grid([None]), {})
    spec = ReplicaSpec(partial(start, logs), (tree,), FORCING, Sampling(), 0, folder, IN_FLIGHT)
    resources = EvaluateResources(replicas=Replicas(min=2, max=2), in_flight=IN_FLIGHT)
    with wired_cluster(2) as machines, ThreadPoolExecutor(1) as thread:
        arguments = (units, spec, Index(folder, print), resources, {"CPU": 1.0}, "loss", lambda done: None)
        running = thread.submit(decode, *arguments)
        _until(lambda: len(asked(logs)) == 2 and all(asked(logs)[at].units for at in (0, 1)))
        busy, other = asked(logs)
        going = next(machine for machine in machines if busy.process in machine.processes())
        began = time.monotonic()
        way(going)
        room = IN_FLIGHT - len(other.units)

        def moved() -> list[float]:
            now = next(one for one in asked(logs) if one.process == other.process)
            return sorted(when for unit, when in now.units.items() if unit not in other.units)

        _until(lambda: len(moved()) >= room)
        took = moved()[room - 1] - began
        going.plug_in()
        running.result()
    return took


def losses() -> dict[str, float]:
    """Seconds, for each way to lose a machine."""
    figures = {}
    for name, way in WAYS.items():
        with tempfile.TemporaryDirectory(prefix="loss", dir="/tmp") as folder:
            figures[f"{name}_elsewhere_seconds"] = seconds_until_elsewhere(way, Path(folder))
    return figures


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE:.0f} s in vain")
        time.sleep(0.05)
