"""What a running step is handed: where to write, what its inputs are, how to say how far it got.

Jobs know nothing else of the orchestrator; in particular they never talk to Ray's scheduler about other steps, nor
to MLflow.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.job.outputs import Output
from orchestrator.job.references import Reference
from orchestrator.job.tracked_run import TrackedRun, folder_name
from orchestrator.store.records import read_passing, write_json_atomically, write_note
from orchestrator.store.working_files import output_of, working_files

if TYPE_CHECKING:
    from orchestrator.job.usage import Held, Spending
    from orchestrator.store.storage import StoragePath
    from orchestrator.store.working_files import WorkingFiles


Made = TypeVar("Made", bound=Output)


@dataclass(frozen=True)
class StepInput:
    """A finished step that another step takes."""

    name: str
    fingerprint: str
    storage: StoragePath
    """The folder that its job wrote, in the store."""
    forecast: object | None = None
    """What was foreseen of it, before it was there (:mod:`jobs.forecasts`)."""

    @property
    def output(self) -> Path:
        """That folder on this machine. From an object store it is fetched, once per machine. Raises StoreError."""
        return output_of(self.storage.parent)


@dataclass(frozen=True)
class StepContext:
    """What a running step is handed. Everything in it can be pickled to other processes of the step."""

    experiment: str
    name: str
    fingerprint: str
    storage: StoragePath
    """The step's own folder in the store. It outlives attempts: a restarted step finds what it left there."""
    traces: StoragePath
    """The folder of decoded trees, shared by all steps and experiments of the store."""
    inputs: Mapping[str, StepInput] = field(default_factory=dict)
    attempt: int = 0
    """Counts restarts of this step within this run of the experiment, from 0."""
    spent: Spending | None = None
    """What earlier attempts came to; None where there was none."""
    may_spend: float | None = None
    """USD that ``max_cost`` had left when the attempt began; None where there is none."""

    @property
    def folder(self) -> Path:
        """The step's folder for this process to work in: :attr:`storage` itself, or a copy where that is a bucket.

        Of what is written to a copy, the store gets logs, tracked runs and single files by themselves. ``output/`` it
        gets by :meth:`deliver`, and what other processes of the step need by :meth:`share`.
        """
        return self._files.folder

    @property
    def output(self) -> Path:
        """Where the job writes its result. Read by others only once the step is done."""
        return self.folder / "output"

    def deliver(self) -> None:
        """Says that what this process wrote to :attr:`output` is whole. Raises StoreError where it cannot be stored."""
        self._files.deliver()

    def check_out(self, *parts: str) -> None:
        """Brings what the store has below these folders of the step, for a process that goes on with it."""
        for part in parts:
            self._files.fetch(part)

    def send(self) -> None:
        """Sees that what was logged and tracked until now is in the store. Raises StoreError."""
        self._files.send()

    def leave(self) -> None:
        """Called last by every process of a step, and by others that looked into it."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._files.leave()

    def share(self, name: str) -> None:
        """Lets the other processes of the step have ``folder/<name>``, which must not change any more."""
        self._files.share(name)

    def shared(self, name: str) -> Path:
        """Where :meth:`share` put it, for this process; where it is to be written, if that was not done yet."""
        return self._files.shared(name)

    def unshare(self, name: str) -> None:
        """Removes what was shared."""
        self._files.unshare(name)

    @property
    def _files(self) -> WorkingFiles:
        return working_files(self.storage)

    def input(self, reference: Reference) -> StepInput:
        """The finished step that a :class:`Reference` of the config names."""
        return self.inputs[reference.step]

    def take(self, reference: Reference, kind: type[Made]) -> Made:
        """What that step made, on this machine. Raises StoreError where it has to be fetched and cannot be."""
        assert issubclass(reference.accepts, kind), f"{reference} is asked for as a {kind.KIND}"
        return kind(self.input(reference).output)

    def progress(
        self,
        done: float,
        total: float,
        unit: str,
        left: float | None = None,
        parts: Mapping[str, float] | None = None,
    ) -> None:
        """Says how far the step is, in `unit` ("steps", "tokens"); shown by ``run`` and ``status``.

        `left` are the seconds that it will still take, where the step knows better than its share of `total` tells.
        `parts` is what each of its processes of now has done, by name.
        """
        record = {"done": done, "total": total, "unit": unit, "left": left, "time": time.time(), "parts": parts or {}}
        write_note(self.folder / "progress.json", record, durable=False)

    def hold(self, held: Held) -> None:
        """Says what this attempt holds, where its config does not."""
        write_note(self.folder / "held.json", {**asdict(held), "time": time.time()}, durable=False)

    def lost(self, counts: Mapping[str, int], reason: str) -> None:
        """Says that the step goes on after a loss: how many there were by cause, and why the last; for ``status``."""
        write_note(self.storage / "losses.json", {"counts": dict(counts), "reason": reason}, durable=False)

    def redirect_output(self, process: str) -> None:
        """Sends this process's output, and its future children's, to ``logs/<process>.txt`` of the step's folder.

        Called first thing by every process of a step (controller, ranks, replicas), so that one folder tells it all.
        """
        path = self.folder / "logs" / f"{process}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files.fetch_file(f"logs/{process}.txt")  # what an earlier attempt said
        self._files.keep_sending()
        sys.stdout.flush()
        sys.stderr.flush()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.dup2(file, 1)
            os.dup2(file, 2)
        finally:
            os.close(file)
        where = f"{process} on {socket.gethostname()}, process {os.getpid()}, attempt {self.attempt}"
        print(f"--- {where}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)

    def use_traces(self, folder: StoragePath) -> None:
        """Notes that the step's result stands on a folder of :attr:`traces`, so that it is not taken for garbage."""
        path = self.storage / "uses.json"
        write_json_atomically(path, sorted({*(read_passing(path, list[str]) or []), folder.name}))

    def track(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None, group: str | None = None
    ) -> TrackedRun:
        """A run of the tracking server, called `name`, that belongs to this step.

        `group` None puts it with the experiment's curves; a word keeps it apart (``training``), so that the page of
        curves shows nothing else.
        """
        folder = folder_name(name)
        self._files.fetch(f"tracked/{folder}")
        self._files.keep_sending()
        return TrackedRun(self.folder / "tracked" / folder, name, params, tags or {}, group)
