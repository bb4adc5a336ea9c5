"""A step's folder on an object store, as one process of the step sees it: a local folder that is kept in step with it.

Jobs read and write local files. Where the store is a folder they do so in place. On an object store each process of a
step (controller, ranks, replicas) has a working copy of its own, so nothing that one leaves on a machine is ever taken
for what another, or an earlier attempt, has stored:

- ``logs/``, ``tracked/`` and the small files beside them are sent every few seconds, and when the process leaves;
- ``output/`` is sent whole by the process that wrote it, and a manifest after it (:meth:`WorkingCopy.deliver`);
- what other steps made is fetched once per machine, checked against its manifest and renamed into place
  (:func:`fetched`): the name has the manifest's digest in it, so what is there is right.

Both live below ``ORCHESTRATOR_CACHE``, or the user's cache folder. Everything in it can be deleted while nothing runs.
A working copy goes with its process, and that of one that was killed is cleared by the next.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from orchestrator.store.errors import NO_SPACE, StoreError, StoreLost
from orchestrator.store.manifest import manifest_of
from orchestrator.store.records import read_record, write_record
from orchestrator.store.step_folders import DELIVERED
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

CACHE = "ORCHESTRATOR_CACHE"

EVERY = 3.0
"""Seconds between looks for what is to be sent; longer where sending takes longer than a tenth of it."""

_SENT = ("logs", "tracked")
"""The folders of a step that are kept in step with the store."""

_copies: dict[str, WorkingCopy] = {}
_making = threading.Lock()


def working_copy(folder: StoragePath) -> WorkingCopy:
    """This process's copy of the step's `folder`."""
    with _making:
        if str(folder) not in _copies:
            _copies[str(folder)] = WorkingCopy(folder)
        return _copies[str(folder)]


class WorkingCopy:
    """One process's copy. Begins empty; safe to be used by several threads."""

    def __init__(self, folder: StoragePath):
        self._stored = folder
        self.folder, self._lock = _new_folder(_cache_of(folder.parent) / "work", folder.name)
        self._busy = threading.RLock()
        self._sent: dict[str, str] = {}
        """Versions of the local files that the store has."""
        self._seen: dict[str, str] = {}
        """Versions of the stored files that were fetched."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)

    def fetch(self, part: str) -> None:
        """Brings what the store has below ``part/`` here, as far as it is new. Raises StoreError."""
        with self._busy:
            new = {}
            for name, stored in storage_of(self._stored / part).files().items():
                if self._seen.get(f"{part}/{name}") != stored.version:
                    new[f"{part}/{name}"] = stored.version
            _download(self._stored, new, self.folder)
            self._seen |= new
            self._sent |= {name: version for name, version in self._local().items() if name in new}

    def fetch_file(self, name: str) -> None:
        """Brings one file here, if the store has it. Raises StoreError."""
        with self._busy:
            if (self._stored / name).exists():
                _download(self._stored, [name], self.folder)

    def keep_sending(self) -> None:
        """From here on, what changes is sent every few seconds."""
        with self._busy:
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_again_and_again, name="store", daemon=True)
                self._thread.start()

    def send(self) -> None:
        """Sends what has changed since the last time. Raises StoreError."""
        with self._busy:
            for name, version in self._local().items():
                if self._sent.get(name) != version:
                    with suppress(FileNotFoundError):  # it was replaced: the next time
                        storage_of(self._stored / name).write_bytes((self.folder / name).read_bytes())
                        self._sent[name] = version

    def deliver(self) -> None:
        """Sends ``output/``, if this process wrote any, then says what it consists of. Raises StoreError."""
        output = self.folder / "output"
        if manifest := manifest_of(output):
            upload(output, self._stored / "output", manifest)
            write_record(self._stored / DELIVERED, {"files": manifest, "tracked": {}})
        self.send()

    def share(self, name: str) -> None:
        """Stores ``folder/<name>`` for the other processes of the step, unless that was done. Raises StoreError."""
        if read_record(self._stored / f"{name}.json") is None:
            manifest = manifest_of(self.folder / name)
            upload(self.folder / name, self._stored / name, manifest)
            write_record(self._stored / f"{name}.json", manifest)

    def shared(self, name: str) -> Path:
        """A copy of what a process of the step shared; where it is to be written, if none did. Raises StoreError."""
        manifest = read_record(self._stored / f"{name}.json")
        return self.folder / name if manifest is None else fetched(self._stored / name, manifest)

    def unshare(self, name: str) -> None:
        """Removes what was shared, and this machine's copies of it. Raises StoreError."""
        copy = self.shared(name)
        storage_of(self._stored / f"{name}.json").remove()
        storage_of(self._stored / name).remove_tree()
        for each in {copy, self.folder / name}:
            shutil.rmtree(each, ignore_errors=True)

    def leave(self) -> None:
        """Sends what is left, and removes the copy. Says so where that fails: the process ends all the same."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.send()
        except StoreError as error:
            print(error, flush=True)
        with _making:
            _copies.pop(str(self._stored), None)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _send_again_and_again(self) -> None:
        pause = EVERY
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.send()
            except StoreError as error:  # whoever needs the store to go on fails by itself
                print(error, flush=True)
            pause = max(EVERY, 10 * (time.monotonic() - began))

    def _local(self) -> dict[str, str]:
        """The versions of the files that are sent: not those that are being written under a temporary name."""
        versions: dict[str, str] = {}
        for part in (self.folder, *(self.folder / name for name in _SENT)):
            below = part.glob("*") if part == self.folder else part.rglob("*")
            for path in below:
                with suppress(FileNotFoundError):
                    if path.is_file() and not path.name.startswith("."):
                        stat = path.stat()
                        versions[path.relative_to(self.folder).as_posix()] = f"{stat.st_size}-{stat.st_mtime_ns}"
        return versions


def upload(folder: Path, to: StoragePath, manifest: Mapping[str, Any]) -> None:
    """Makes `to` consist of the files of a folder. Raises StoreError."""
    left_over = storage_of(to).files().keys() - manifest.keys()
    storage_of(to).put(folder, manifest)
    for name in left_over:
        storage_of(to / name).remove()


def fetched(folder: StoragePath, manifest: Mapping[str, Mapping[str, Any]]) -> Path:
    """A local copy of files of `folder`, for reading, shared by all processes of this machine.

    Raises StoreError where they are not what `manifest` (:func:`orchestrator.store.manifest.manifest_of`) says, or
    do not fit.
    """
    name = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    copy = _cache_of(folder.parent.parent) / "fetched" / f"{folder.parent.name}-{folder.name}-{name}"
    if copy.is_dir():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    with _alone(copy.with_name(f".{copy.name}.lock")):
        if not copy.is_dir():
            temporary = Path(tempfile.mkdtemp(prefix=f".{copy.name}-", dir=copy.parent))
            try:
                _download(folder, manifest, temporary)
                for each, expected in manifest.items():
                    file = temporary / each
                    if file.stat().st_size != expected["bytes"] or storage_of(file).digest() != expected["sha256"]:
                        raise StoreError(
                            f"{folder / each} is not what was written there: remove {folder.parent} from the store, and"
                            " run the same command again, which makes it anew"
                        )
                temporary.rename(copy)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return copy


def fetched_output(step: StoragePath, largest: int | None = None) -> Path:
    """A local copy of a finished step's output; of its files up to `largest` bytes only. Raises StoreError."""
    record = read_record(step / "done.json")
    if record is None:
        raise StoreError(f"{step} is not done: its output is not there yet")
    kept = {name: file for name, file in record["files"].items() if largest is None or file["bytes"] <= largest}
    return fetched(step / "output", kept)


def _download(folder: StoragePath, names: Iterable[str], to: Path) -> None:
    try:
        storage_of(folder).fetch(names, to)
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            raise StoreLost(
                f"no space left in {to} for {folder} ({cause.strerror}): free some, or set {CACHE} to another folder, "
                "and run the same command again"
            ) from cause
        raise


def _cache_of(store: StoragePath) -> Path:
    """Where this machine keeps what it has of a store."""
    root = Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("scaling-orchestrator"))
    return root / hashlib.sha256(str(store).encode()).hexdigest()[:16]


def _new_folder(folder: Path, name: str) -> tuple[Path, int]:
    """A folder with the lock that says that its process lives. Clears those whose process does not."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".lock"):
        for other in folder.glob("*/.alive"):
            lock = os.open(other, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other.parent, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)
        made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
        alive = os.open(made / ".alive", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(alive, fcntl.LOCK_EX)
        return made, alive


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Holds a lock among the processes of this machine."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
