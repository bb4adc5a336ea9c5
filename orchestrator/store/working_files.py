"""A step's files as its processes work with them: in the store itself where that is a folder, else in a copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.store.step_folders import StepFolder
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath


class WorkingFiles(Protocol):
    """A folder of this machine, and what it takes for the store to have what is written to it, and the other way."""

    @property
    def folder(self) -> Path:
        """Where this process reads and writes."""

    def deliver(self) -> None:
        """Says that ``output/`` is whole. Raises StoreError where it cannot be stored."""

    def fetch(self, part: str) -> None:
        """Brings what the store has below ``part/`` here, as far as it is new. Raises StoreError."""

    def fetch_file(self, name: str) -> None:
        """Brings one file here, if the store has it. Raises StoreError."""

    def keep_sending(self) -> None:
        """From here on, the store gets what changes every few seconds."""

    def send(self) -> None:
        """Sends what has changed since the last time. Raises StoreError."""

    def leave(self) -> None:
        """Sends what is left; called last."""

    def share(self, name: str) -> None:
        """Lets the other processes of the step have ``folder/<name>``, which must not change any more."""

    def shared(self, name: str) -> Path:
        """Where :meth:`share` put it, for this process; where it is to be written, if that was not done yet."""

    def unshare(self, name: str) -> None:
        """Removes what was shared."""


@dataclass(frozen=True)
class InPlace:
    """The store's own folder: what is written is there, for everyone, at once."""

    folder: Path

    def deliver(self) -> None:
        StepFolder(self.folder).deliver()

    def fetch(self, part: str) -> None:
        pass

    def fetch_file(self, name: str) -> None:
        pass

    def keep_sending(self) -> None:
        pass

    def send(self) -> None:
        pass

    def leave(self) -> None:
        pass

    def share(self, name: str) -> None:
        pass

    def shared(self, name: str) -> Path:
        return self.folder / name

    def unshare(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)


def working_files(step: StoragePath) -> WorkingFiles:
    """This process's way to work with the files of the step whose folder that is."""
    local = storage_of(step).local
    if local is not None:
        return InPlace(local)
    from orchestrator.store.working_copy import working_copy

    return working_copy(step)


def output_of(step: StoragePath, largest: int | None = None) -> Path:
    """A finished step's output on this machine; of a bucket's, the files up to `largest` bytes. Raises StoreError."""
    local = storage_of(step).local
    if local is not None:
        return local / "output"
    from orchestrator.store.working_copy import fetched_output

    return fetched_output(step, largest)
