"""Where results live: one folder per step, named by what the step is, with the done-marker written last.

::

    <root>/<name>-<fingerprint>/
        identity.json    what the fingerprint is a hash of; kept so that a plan can say which field changed
        config.json      the whole config, resources included, of the last attempt
        status.json      state, times, attempt, error
        progress.json    how far the running attempt is
        held.json        what it holds, where its config does not say
        losses.json      what the step lost and made good: machines, replicas, workers
        leases/          which run works on it, renewed while it lives
        cancel.json      the run that was asked to stop
        uses.json        the folders of traces that its result stands on
        delivered.json   the manifest of output/ and tracked/, by the process that wrote them
        provenance.json  the commit and the versions that the last attempt ran with
        logs/            what each process of the step said
        output/          what the job wrote
        tracked/         numbers for the tracking server
        done.json        the manifest of output/ and tracked/, written last: without it the output does not exist
    <root>/traces/       decoded trees, shared by all steps
    <root>/reports/      pages on finished steps, which can be written again at any time

Every JSON file is written to a temporary name and renamed, so a reader sees the old one or the new one. Records that
others rely on (identity, done) carry a checksum; a damaged one is reported and its step runs again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease, Leases
from orchestrator.store.manifest import Manifest, manifest_of
from orchestrator.store.records import (
    DamagedRecord,
    read_note,
    read_passing,
    read_record,
    write_json_atomically,
    write_note,
    write_record,
)
from orchestrator.store.storage import first_contact, storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

VERIFIED_IN_FULL = 16 << 20
"""Bytes up to which an output file is read and hashed whenever its step is looked up; larger ones by size alone."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a step may be called: a folder name on any file system, and never a way out of the store."""

PAGE = "report.html"
"""A report on the step among what it tracked: written again at any time, so no part of what was finished."""

DELIVERED = "delivered.json"
"""What the process that wrote ``output/`` says it consists of, once all of it is there."""


_NOTE = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")


class StatusNote(TypedDict, total=False):
    """What became of a step."""

    __pydantic_config__ = _NOTE  # type: ignore[misc]
    state: str
    run: str | None
    attempt: int
    started: float | None
    finished: float | None
    error: str | None
    restarts: dict[str, int]
    reason: str | None


class ProgressNote(TypedDict):
    """How far a running step is."""

    __pydantic_config__ = _NOTE  # type: ignore[misc]
    done: float
    total: float
    unit: str
    time: float


class HeldNote(TypedDict):
    """What a running step holds."""

    __pydantic_config__ = _NOTE  # type: ignore[misc]
    devices: float
    device_seconds: float
    time: float


class LossesNote(TypedDict, total=False):
    """What a running step lost and made good."""

    __pydantic_config__ = _NOTE  # type: ignore[misc]
    counts: dict[str, int]
    reason: str


@dataclass(frozen=True)
class StepFolder:
    """One step's place in the store."""

    path: StoragePath

    @property
    def fingerprint(self) -> str:
        return self.path.name.rpartition("-")[2]

    @property
    def output(self) -> StoragePath:
        return self.path / "output"

    @property
    def logs(self) -> StoragePath:
        return self.path / "logs"

    @property
    def tracked(self) -> StoragePath:
        return self.path / "tracked"

    def create(self, identity: Mapping[str, Any]) -> None:
        """Makes the folder, if it is not there, and records what it is for."""
        storage_of(self.output).make_folder()
        write_record(self.path / "identity.json", identity)

    @cached_property
    def identity(self) -> Any:
        """What the step's fingerprint is a hash of; None where the folder is not there."""
        return read_record(self.path / "identity.json")

    def done(self) -> bool:
        """Whether the step is finished and its output is what it was then.

        Raises DamagedRecord, naming the file, where it was finished but is no longer whole.
        """
        record = read_record(self.path / "done.json")
        if record is None:
            return False
        there = storage_of(self.output).files()
        for name, expected in record["files"].items():
            file = self.output / name
            if name not in there:
                raise DamagedRecord(f"{file} is missing")
            if (size := there[name].size) != expected["bytes"]:
                raise DamagedRecord(f"{file} has {size} bytes, {expected['bytes']} were written")
            # Larger ones, and those in a bucket, when they are taken, reported on or verified.
            content = storage_of(file)
            if not content.remote and size <= VERIFIED_IN_FULL and content.digest() != expected["sha256"]:
                raise DamagedRecord(f"{file} does not match its checksum")
        return True

    def whole(self) -> bool:
        """Whether it is finished and not damaged."""
        try:
            return self.done()
        except DamagedRecord:
            return False

    def verify(self) -> tuple[int, int]:
        """Reads all of a finished step's output; returns how many files and bytes there are, none where it is not done.

        Raises DamagedRecord, naming the file, where it is not what was written; from then on the step is not done. What
        was tracked is for :meth:`verify_tracked`: no other step takes it.
        """
        if not self.done():
            return 0, 0
        expected: Mapping[str, Mapping[str, Any]] = read_record(self.path / "done.json")["files"]
        for name, file in expected.items():
            if storage_of(self.output / name).digest() != file["sha256"]:
                with suppress(OSError):  # on a store that cannot be written
                    storage_of(self.path / "done.json").set_aside(".damaged")
                raise DamagedRecord(f"{self.output / name} does not match its checksum")
        return len(expected), sum(file["bytes"] for file in expected.values())

    def verify_tracked(self) -> int:
        """Reads what a finished step tracked; returns how many files that is.

        Raises DamagedRecord, naming the file, where it is not what was written.
        """
        expected = (read_record(self.path / "done.json") or {}).get("tracked", {})
        there = storage_of(self.tracked).files()
        for name, file in expected.items():
            if name not in there:
                raise DamagedRecord(f"{self.tracked / name} is missing")
            if there[name].size != file["bytes"] or storage_of(self.tracked / name).digest() != file["sha256"]:
                raise DamagedRecord(f"{self.tracked / name} does not match its checksum")
        return len(expected)

    def deliver(self) -> None:
        """Says that ``output/``, a folder of this machine, is whole, by the process that wrote it: it has hashed it."""
        known = self._delivered()
        record = {
            "files": manifest_of(self.output, known["files"]),
            "tracked": manifest_of(self.tracked, known["tracked"]),
        }
        write_record(self.path / DELIVERED, record)

    def mark_done(self) -> None:
        """Writes the manifest of the output and of what was tracked. From here on the step is finished.

        On an object store the output is what the job delivered. Raises StoreError where it delivered nothing.
        """
        delivered = self._delivered()
        local = storage_of(self.output).local
        files = delivered["files"] if local is None else manifest_of(local, delivered["files"])
        if local is None and not files:
            raise StoreError(f"{self.path.name} has ended, and nothing in {self.output} says that it was written whole")
        tracked = manifest_of(self.tracked, delivered["tracked"])
        record = {
            "files": {name: _sealed(file) for name, file in files.items()},
            "tracked": {name: _sealed(file) for name, file in tracked.items() if Path(name).name != PAGE},
        }
        write_record(self.path / "done.json", {**record, "time": time.time()})

    def _delivered(self) -> dict[str, Manifest]:
        """What is known of the files: of those that it does not name, or that changed since, the content is read."""
        nothing: dict[str, Manifest] = {"files": {}, "tracked": {}}
        try:
            return read_record(self.path / DELIVERED) or nothing
        except DamagedRecord:
            return nothing

    def unmark_done(self) -> None:
        storage_of(self.path / "done.json").remove()
        storage_of(self.path / DELIVERED).remove()

    def live_lease(self) -> Lease | None:
        """The live lease on the step, if there is one."""
        lease = self.leases.latest()
        return lease if lease and lease.live else None

    @property
    def leases(self) -> Leases:
        return Leases(self.path / "leases")

    def acquire(self, lease: Lease) -> None:
        """Takes the step for a run. Raises StoreError, naming it, when another live run has it."""
        if (holder := self.leases.acquire(lease)) is not None:
            raise StoreError(f"{self.path.name} is being worked on by {holder}; wait for it, or stop it")

    def renew(self, lease: Lease) -> bool:
        """Renews the lease's heartbeat; False where another run has meanwhile taken the step over."""
        return self.leases.renew(lease)

    def release(self, run: str) -> None:
        """Gives the step up, if that run still has it."""
        self.leases.release(run)

    def request_cancel(self, run: str) -> None:
        """Asks a run that works on the step, on whatever machine, to stop."""
        write_json_atomically(self.path / "cancel.json", {"run": run})

    def cancel_requested(self, run: str) -> bool:
        """Whether that run was asked to stop. A request to an earlier run is none to this one."""
        return read_passing(self.path / "cancel.json", dict[str, str]) == {"run": run}

    def read_status(self) -> dict[str, Any]:
        return self._note("status.json", StatusNote, "what became of the step is not known")

    def _note(self, name: str, shape: Any, without: str) -> dict[str, Any]:
        return dict(read_note(self.path / name, shape, without) or {})

    def write_status(self, **changes: Any) -> None:
        """Merges `changes` into the status. Only the run that has the lease may call it."""
        write_note(self.path / "status.json", {**self.read_status(), **changes}, durable=False)

    @property
    def made(self) -> float:
        """When a run last began to work on it, in seconds since 1970."""
        path = self.path / "identity.json"
        return path.stat().st_mtime if path.exists() else 0.0

    def read_progress(self) -> dict[str, Any]:
        return self._note("progress.json", ProgressNote, "how far the step is, is not known")

    def read_held(self) -> dict[str, Any]:
        return self._note("held.json", HeldNote, "what the step holds is not known")

    def read_losses(self) -> dict[str, Any]:
        return self._note("losses.json", LossesNote, "what the step lost is not known")

    def forget_losses(self) -> None:
        """A new run has its budgets anew."""
        storage_of(self.path / "losses.json").remove()


def _sealed(file: Mapping[str, Any]) -> dict[str, Any]:
    """What a done-marker says of a file: not when it was written, which a copy of the store would change."""
    return {"bytes": file["bytes"], "sha256": file["sha256"]}


@dataclass(frozen=True)
class Store:
    """All steps ever run with one root. Safe to share between experiments and between runs."""

    root: StoragePath

    def step(self, name: str, fingerprint: str) -> StepFolder:
        """The place of a step. Raises ValueError for a name that could leave the store."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a step's name: letters, digits, _ and -, at most 64")
        return StepFolder(self.root / f"{name}-{fingerprint}")

    @property
    def traces(self) -> StoragePath:
        return self.root / "traces"

    @property
    def reports(self) -> StoragePath:
        return self.root / "reports"

    def others(self, step: StepFolder) -> list[StepFolder]:
        """Other versions of the step of that name, the newest first."""
        name = step.path.name.rpartition("-")[0]
        there = storage_of(self.root).folders()
        others = [
            StepFolder(path) for path in there if path.name.rpartition("-")[0] == name and path.name != step.path.name
        ]
        return sorted(others, key=lambda folder: folder.made, reverse=True)

    def check_reachable(self) -> None:
        """Raises StoreError, within seconds, where an object store does not answer, or does not let us read."""
        first_contact(self.root).check_reachable()

    def check_writable(self) -> None:
        """Creates the root and writes to it. Raises StoreError, saying why, where that fails."""
        first_contact(self.root).check_writable()
