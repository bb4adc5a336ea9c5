"""Which run works on a step: one at a time, and a dead one's lease is worth nothing.

Leases are numbered files, ``leases/00000003.json``, and the highest counts: taking an abandoned step over is creating
the next number, which one of several runs can (:meth:`~orchestrator.store.protocol.Storage.write_once`). Only the
holder writes its own after that, to renew the heartbeat.

Clocks jump, and those of two machines may be apart. On one machine they play no part: processes are told apart by the
time since its start. A lease from another machine is looked at for a while before it is taken over, however old its
heartbeat seems: one that changes is alive.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from orchestrator.store.records import read_passing, write_json_atomically
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

STALE_AFTER = 30.0
"""Seconds without a heartbeat after which a lease from another machine counts as abandoned."""

HEARTBEAT = 5.0
"""Seconds between renewals of the leases; a sixth of the time after which they count as abandoned."""

WATCHED = 12.0
"""Seconds for which an abandoned lease from another machine is looked at before it is taken over: two heartbeats."""


@dataclass(frozen=True)
class Lease:
    """A run's word that it is working on a step. Worth nothing once the run is dead."""

    run: str
    host: str
    pid: int
    process_started: float
    """Seconds after its machine's start at which the process `pid` started: a reused number is not taken for it."""
    heartbeat: float

    @classmethod
    def by_this_process(cls, run: str) -> Lease:
        return cls(run, socket.gethostname(), os.getpid(), _started(os.getpid()), time.time())

    @property
    def live(self) -> bool:
        """On this machine: whether the process exists. From another: whether its heart beat lately."""
        if self.host != socket.gethostname():
            return abs(time.time() - self.heartbeat) < STALE_AFTER
        try:
            return abs(_started(self.pid) - self.process_started) < 1
        except psutil.NoSuchProcess:
            return False

    def beats(self, leases: Leases) -> bool:
        """Whether it is renewed, from another machine, while it is looked at: then only its clock is another."""
        if self.host == socket.gethostname():
            return False
        deadline = time.monotonic() + WATCHED
        while time.monotonic() < deadline:
            time.sleep(HEARTBEAT / 10)
            latest = leases.latest()
            if latest is None or latest.run != self.run:
                return False
            if latest.heartbeat != self.heartbeat:
                return True
        return False

    def renewed(self) -> Lease:
        """The same, with a heartbeat of now."""
        return replace(self, heartbeat=time.time())

    def __str__(self) -> str:
        return f"run {self.run} (process {self.pid} on {self.host})"


def _started(pid: int) -> float:
    """Seconds after this machine's start at which a process started. Raises psutil.NoSuchProcess.

    What psutil tells is such a time plus that of the machine's start, and both follow the clock when it is set.
    """
    boot = psutil.boot_time()
    return psutil.Process(pid).create_time() - boot


@dataclass(frozen=True)
class Leases:
    """The leases on one step."""

    folder: StoragePath

    def latest(self) -> Lease | None:
        """Whoever acquired the step last and did not give it up; dead or alive."""
        return self._latest()[1]

    def acquire(self, lease: Lease) -> Lease | None:
        """Takes the step, or returns the live lease of another run that has it."""
        while True:
            number, holder = self._latest()
            if holder is not None and holder.run == lease.run:
                write_json_atomically(self._file(number), vars(lease), durable=False)
                return None
            if holder is not None and holder.live:
                return holder
            if storage_of(self._file(number + 1)).write_once(json.dumps(vars(lease)).encode()):
                return None

    def renew(self, lease: Lease) -> bool:
        """Renews a lease's heartbeat; False where another run has meanwhile taken the step over."""
        number, holder = self._latest()
        if holder is None or holder.run != lease.run:
            return False
        write_json_atomically(self._file(number), vars(lease.renewed()), durable=False)
        return True

    def release(self, run: str) -> None:
        """Gives the step up, if that run still has it."""
        number, holder = self._latest()
        if holder is not None and holder.run == run:
            # Our own last: as long as it is there, nobody takes a lower one for the latest.
            for earlier in (each for each in self._numbers() if each <= number):
                storage_of(self._file(earlier)).remove()

    def _latest(self) -> tuple[int, Lease | None]:
        """The highest number, 0 where there is none, and its lease."""
        number = max(self._numbers(), default=0)
        return number, read_passing(self._file(number), Lease) if number else None

    def _numbers(self) -> list[int]:
        """Ascending."""
        numbers = [name.removesuffix(".json") for name in storage_of(self.folder).files()]
        return [int(number) for number in numbers if number.isdecimal()]

    def _file(self, number: int) -> StoragePath:
        return self.folder / f"{number:08d}.json"
