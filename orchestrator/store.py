"""Where results live: one folder per step, named by what the step is, with the done-marker written last.

::

    <root>/<name>-<fingerprint>/
        identity.json    what the fingerprint is a hash of; kept so that a plan can say which field changed
        config.json      the whole config, resources included, of the last attempt
        status.json      state, times, attempt, error
        progress.json    how far the running attempt is
        losses.json      what the step lost and made good: machines, replicas, workers
        claim.json       which run works on it, refreshed while it lives
        cancel.json      the run that was asked to stop
        uses.json        the folders of traces that its result stands on
        provenance.json  the commit and the versions that the last attempt ran with
        logs/            what each process of the step said
        output/          what the job wrote
        tracked/         numbers for the tracking server
        done.json        the manifest of output/, written last: without it the output does not exist
    <root>/traces/       decoded trees, shared by all steps
    <root>/reports/      pages on finished steps, which can be written again at any time

Every JSON file is written to a temporary name and renamed, so a reader sees the old one or the new one. Records that
others rely on (identity, done) carry a checksum; a damaged one is reported and its step runs again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

STALE_AFTER = 30.0
"""Seconds without a heartbeat after which a claim from another machine counts as abandoned."""

HEARTBEAT = 5.0
"""Seconds between refreshes of the claims; a sixth of the time after which they count as abandoned."""

VERIFIED_IN_FULL = 16 << 20
"""Bytes up to which an output file is read and hashed whenever its step is looked up; larger ones by size alone."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a step may be called: a folder name on any file system, and never a way out of the store."""


class DamagedRecord(Exception):
    """A record whose content is not what was written: torn, edited, or rotten."""


class StoreError(Exception):
    """The store cannot be used as asked: not writable, or in use by a live run."""


def write_json_atomically(path: Path, value: Any) -> None:
    """Replaces `path` in one step: a reader, or a crash, sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("w") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The value in `path`, or None where there is no such file. Raises DamagedRecord where it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DamagedRecord(f"{path} is not JSON: {error}") from error


def _checksum(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_record(path: Path, record: Any) -> None:
    """Writes a record atomically, with the checksum that :func:`read_record` verifies."""
    write_json_atomically(path, {"checksum": _checksum(record), "record": record})


def read_record(path: Path) -> Any:
    """A record written by :func:`write_record`, or None. Raises DamagedRecord where the checksum does not match."""
    wrapped = read_json(path)
    if wrapped is None:
        return None
    if not isinstance(wrapped, dict) or wrapped.get("checksum") != _checksum(wrapped.get("record")):
        raise DamagedRecord(f"{path} is damaged: its content does not match its checksum")
    return wrapped["record"]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Claim:
    """A run's word that it is working on a step. Worth nothing once the run is dead."""

    run: str
    host: str
    pid: int
    process_started: float
    """Start time of the process `pid`, so that a reused number is not taken for it."""
    heartbeat: float

    @classmethod
    def by_this_process(cls, run: str) -> Claim:
        return cls(run, socket.gethostname(), os.getpid(), psutil.Process().create_time(), time.time())

    @property
    def live(self) -> bool:
        """On this machine: whether the process exists. From another: whether its heart beat lately."""
        if self.host != socket.gethostname():
            return time.time() - self.heartbeat < STALE_AFTER
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) < 1
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"run {self.run} (process {self.pid} on {self.host})"


@dataclass(frozen=True)
class StepFolder:
    """One step's place in the store."""

    path: Path

    @property
    def fingerprint(self) -> str:
        return self.path.name.rpartition("-")[2]

    @property
    def output(self) -> Path:
        return self.path / "output"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def tracked(self) -> Path:
        return self.path / "tracked"

    def create(self, identity: Mapping[str, Any]) -> None:
        """Makes the folder, if it is not there, and records what it is for."""
        self.output.mkdir(parents=True, exist_ok=True)
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
        for name, expected in record["files"].items():
            file = self.output / name
            if not file.is_file():
                raise DamagedRecord(f"{file} is missing")
            if (size := file.stat().st_size) != expected["bytes"]:
                raise DamagedRecord(f"{file} has {size} bytes, {expected['bytes']} were written")
            if size <= VERIFIED_IN_FULL and _digest(file) != expected["sha256"]:
                raise DamagedRecord(f"{file} does not match its checksum")
        return True

    def mark_done(self) -> None:
        """Writes the manifest of the output. From here on the step is finished."""
        files = sorted(item for item in self.output.rglob("*") if item.is_file())
        manifest = {
            file.relative_to(self.output).as_posix(): {"bytes": file.stat().st_size, "sha256": _digest(file)}
            for file in files
        }
        write_record(self.path / "done.json", {"files": manifest, "time": time.time()})

    def unmark_done(self) -> None:
        (self.path / "done.json").unlink(missing_ok=True)

    def claimed_by(self) -> Claim | None:
        """The live claim on the step, if there is one."""
        record = read_json(self.path / "claim.json")
        claim = Claim(**record) if record else None
        return claim if claim and claim.live else None

    def claim(self, claim: Claim) -> None:
        """Takes the step for a run. Raises StoreError, naming it, when another live run has it.

        The lock is held for the decision alone, so that of two runs that find an abandoned claim one gets it.
        """
        with (self.path / "claim.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            holder = self.claimed_by()
            if holder is not None and holder.run != claim.run:
                raise StoreError(f"{self.path.name} is being worked on by {holder}; wait for it, or stop it")
            write_json_atomically(self.path / "claim.json", vars(claim))

    def refresh(self, claim: Claim) -> bool:
        """Renews the claim's heartbeat; False where another run has meanwhile taken the step over."""
        with (self.path / "claim.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            record = read_json(self.path / "claim.json")
            if record is None or record["run"] != claim.run:
                return False
            write_json_atomically(self.path / "claim.json", vars(replace(claim, heartbeat=time.time())))
            return True

    def release(self, run: str) -> None:
        """Gives the step up, if that run still has it."""
        record = read_json(self.path / "claim.json")
        if record and record["run"] == run:
            (self.path / "claim.json").unlink(missing_ok=True)

    def request_cancel(self, run: str) -> None:
        """Asks a run that works on the step, on whatever machine, to stop."""
        write_json_atomically(self.path / "cancel.json", {"run": run})

    def cancel_requested(self, run: str) -> bool:
        """Whether that run was asked to stop. A request to an earlier run is none to this one."""
        record = read_json(self.path / "cancel.json")
        return record is not None and record["run"] == run

    def read_status(self) -> dict[str, Any]:
        return read_json(self.path / "status.json") or {}

    def write_status(self, **changes: Any) -> None:
        """Merges `changes` into the status. Only the run that has the claim may call it."""
        write_json_atomically(self.path / "status.json", {**self.read_status(), **changes})

    def read_progress(self) -> dict[str, Any]:
        return read_json(self.path / "progress.json") or {}

    def read_losses(self) -> dict[str, Any]:
        return read_json(self.path / "losses.json") or {}

    def forget_losses(self) -> None:
        """A new run has its budgets anew."""
        (self.path / "losses.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class Store:
    """All steps ever run with one root. Safe to share between experiments and between runs."""

    root: Path

    def step(self, name: str, fingerprint: str) -> StepFolder:
        """The place of a step. Raises ValueError for a name that could leave the store."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a step's name: letters, digits, _ and -, at most 64")
        return StepFolder(self.root / f"{name}-{fingerprint}")

    @property
    def traces(self) -> Path:
        return self.root / "traces"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def others(self, step: StepFolder) -> list[StepFolder]:
        """Other versions of the step of that name, the newest first."""
        name = step.path.name.rpartition("-")[0]
        folders = [
            StepFolder(path)
            for path in self.root.glob(f"{name}-*/")
            if path.name.rpartition("-")[0] == name and path != step.path
        ]
        return sorted(folders, key=lambda folder: folder.path.stat().st_mtime, reverse=True)

    def check_writable(self) -> None:
        """Creates the root and writes to it. Raises StoreError, saying why, where that fails."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable-{uuid.uuid4().hex[:8]}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"store {self.root} cannot be written: {error.strerror}; choose another with store:"
            ) from None


@contextmanager
def claimed(folders: list[StepFolder], claim: Claim) -> Iterator[None]:
    """Holds the claim on several steps: all of them, or none and a StoreError."""
    taken: list[StepFolder] = []
    try:
        for folder in folders:
            folder.claim(claim)
            taken.append(folder)
        yield
    finally:
        for folder in taken:
            folder.release(claim.run)


@contextmanager
def heartbeat(folders: list[StepFolder], claim: Claim) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Keeps the claims alive.

    The first event is set when one is lost: this process slept so long that it seemed dead. The second is set when the
    run is asked to stop through the store.
    """
    stop, taken_over, cancelled = threading.Event(), threading.Event(), threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT):
            if not all(folder.refresh(claim) for folder in folders):
                taken_over.set()
            if any(folder.cancel_requested(claim.run) for folder in folders):
                cancelled.set()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield taken_over, cancelled
    finally:
        stop.set()
        thread.join()
