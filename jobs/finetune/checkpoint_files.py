"""Where checkpoints lie: a folder, or a key prefix of an S3 bucket, with one folder in it per optimizer step.

::

    <location>/step-00000400/
        __0_0.distcp …    what each worker wrote
        .metadata         which tensor is where in them
        complete.json     written last: the files with their sizes, and what the checkpoint is of

A folder without ``complete.json``, or whose files are not those that it names, was torn by a crash: it is no
checkpoint. Nothing is renamed, because object stores cannot, and the marker is a single PUT there, which is atomic.
Credentials come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, a role, …), never
from the location.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec

from jobs.finetune.config import FinetuneConfig
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.store.records import write_json_atomically
from orchestrator.store.storage import IMPATIENCE, options

_MARKER = "complete.json"
_PREFIX = "step-"


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contents:
    """What a whole checkpoint consists of, and what it is of."""

    files: dict[str, int]
    """Bytes of each."""
    shapes: dict[str, list[int]]
    """Of every tensor in it, by name."""
    recipe: dict[str, Any]
    """What the run was asked to compute: a checkpoint is worth nothing to another."""
    workers: int
    """The gang that wrote it."""


def checkpoints_of(config: FinetuneConfig, context: StepContext) -> CheckpointFolder:
    """The place of a step's checkpoints: ``resources.checkpoints``, which steps may share, or the step's own folder."""
    if config.resources.checkpoints is None:
        return CheckpointFolder(str(context.storage / "checkpoints"), context.send)
    location = f"{config.resources.checkpoints.rstrip('/')}/{context.name}-{context.fingerprint}"
    return CheckpointFolder(location, context.send)


@dataclass(frozen=True)
class CheckpointFolder:
    """All checkpoints of one run. Listing is for one process at a time, which tells the others."""

    location: str
    """An absolute path, or ``s3://bucket/key``."""
    settle: Callable[[], None] = _nothing
    """Called before a checkpoint counts: what training has logged until then must not be lost after it."""

    @property
    def local(self) -> bool:
        return "://" not in self.location

    @property
    def options(self) -> dict[str, Any]:
        """What fsspec is told besides the location."""
        return {} if self.local else options(self.location.partition("://")[0])

    def step(self, number: int) -> str:
        """The place of the checkpoint after optimizer step `number`."""
        return f"{self.location}/{_PREFIX}{number:08d}"

    def whole(self) -> Iterator[tuple[int, Contents]]:
        """The checkpoints that are complete, the latest first."""
        for number in sorted(self._numbers(), reverse=True):
            contents = self._contents(number)
            if contents is not None:
                yield number, contents

    def size(self, number: int, name: str) -> int:
        """Bytes of a file of a checkpoint."""
        return int(self._files.size(f"{self.step(number)}/{name}"))

    def mark(self, number: int, contents: Contents) -> None:
        """Says that all of a checkpoint is there."""
        self.settle()
        record = asdict(contents)
        if self.local:
            write_json_atomically(Path(self.step(number), _MARKER), record)
        else:
            self._files.pipe_file(f"{self.step(number)}/{_MARKER}", json.dumps(record).encode())

    def retain(self, latest: int, newest: int) -> None:
        """Drops all but the `newest` whole checkpoints up to `latest`, which was just written.

        Torn ones go, and later ones: the run has gone back before them, because they could not be read.
        """
        kept = [whole for whole, _ in self.whole() if whole <= latest][:newest]
        for number in self._numbers():
            if number not in kept:
                self.drop(number)

    def drop(self, number: int) -> None:
        """Removes a checkpoint, whole or torn, if it is there."""
        self._remove(self.step(number))

    def remove(self) -> None:
        """Removes the folder with all that is in it. Raises StepError where that fails."""
        with self.explained():
            self._remove(self.location)

    def check_writable(self) -> None:
        """Writes something and removes it. Raises StepError where that fails."""
        probe = f"{self.location}/.writable-{uuid.uuid4().hex[:8]}"
        with self.explained():
            if self.local:
                self._files.makedirs(self.location, exist_ok=True)
                self._files.pipe_file(probe, b"")
            else:  # One that does not answer is noticed in seconds.
                impatient = options(self.location.partition("://")[0], IMPATIENCE)
                fsspec.url_to_fs(self.location, **impatient)[0].pipe_file(probe, b"")
            self._files.rm_file(probe)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what the file system or the bucket complains about into a StepError of one line."""
        try:
            yield
        except _complaints(self.local) as error:
            raise StepError(self.complaint(error)) from error

    def complaint(self, error: BaseException) -> str:
        """What to tell a user of an error that the file system or the bucket gave."""
        reason = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
        remedy = "give resources.checkpoints a folder that can be written and has space"
        if not self.local:
            remedy = "see that the bucket exists, can be reached, and that the environment has credentials for it"
        return (
            f"resources.checkpoints: {self.location} cannot be used ({reason}): {remedy}, and run the same command "
            "again; checkpoints that were complete are kept"
        )

    def is_complaint(self, error: BaseException) -> bool:
        """Whether an error is the file system's or the bucket's, rather than the program's."""
        return isinstance(error, _complaints(self.local))

    @property
    def _files(self) -> Any:
        return fsspec.url_to_fs(self.location, **self.options)[0]

    def _numbers(self) -> list[int]:
        names = (Path(path).name for path in self._listed(self.location))
        return [int(name.removeprefix(_PREFIX)) for name in names if name.removeprefix(_PREFIX).isdecimal()]

    def _contents(self, number: int) -> Contents | None:
        folder = self.step(number)
        sizes = {Path(name).name: entry["size"] for name, entry in self._listed(folder).items()}
        if _MARKER not in sizes:
            return None
        try:
            contents = Contents(**json.loads(self._files.cat_file(f"{folder}/{_MARKER}")))
        except (ValueError, TypeError):
            return None
        return contents if all(sizes.get(name) == size for name, size in contents.files.items()) else None

    def _listed(self, folder: str) -> dict[str, Any]:
        files = self._files
        files.invalidate_cache()
        try:
            return {entry["name"]: entry for entry in files.ls(folder, detail=True)}
        except FileNotFoundError:
            return {}

    def _remove(self, path: str) -> None:
        files = self._files
        files.invalidate_cache()
        if files.exists(path):
            files.rm(path, recursive=True)


def _complaints(local: bool) -> tuple[type[Exception], ...]:
    if local:
        return (OSError,)
    from botocore.exceptions import BotoCoreError

    return OSError, BotoCoreError
