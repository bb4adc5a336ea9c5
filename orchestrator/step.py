"""The boundary between the control plane and a job: what a job declares, and what it is handed.

A job *declares* itself with a :class:`StepConfig`: its fields, which of them are identity (all, but ``resources``), the
kind of output it makes, the outputs it takes. It is *handed* a :class:`StepContext`: where to write, what its inputs
are, how to say how far it got, how to record numbers that belong in a tracking server. Jobs know nothing else of the
orchestrator; in particular they never talk to Ray's scheduler about other steps, nor to MLflow.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from cluster.machines import CPU, Machine, known_machine, machine, names, this_machine
from orchestrator.local_files import LocalPath, absolute, is_there, locate
from orchestrator.records import read_passing, write_json_atomically, write_note
from orchestrator.retries import Retries
from orchestrator.tracked_run import TrackedRun, folder_name

if TYPE_CHECKING:
    from upath import UPath

    from orchestrator.holdings import Held, Spending
    from orchestrator.places import Place
    from orchestrator.working_copy import WorkingCopy

OutputKind = Literal["dataset", "model", "curves"]

DEFAULT_GPU = "h100"
"""What is reckoned with where a step asks for GPUs and does not say which."""

NAMESPACE = "scaling-orchestrator"
"""Ray's, of all runs on a cluster: by it steps know what those of other experiments hold."""

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")


@dataclass(frozen=True)
class Reference:
    """``${step}`` in an experiment file: the output of another step, which must be of kind `accepts`."""

    step: str
    accepts: OutputKind

    def __str__(self) -> str:
        return f"${{{self.step}}}"


def parse_reference(value: object) -> str | None:
    """The step that a plain YAML value refers to, or None when it is not a reference."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match.group(1).strip() if match else None


def is_path(text: str) -> bool:
    """Whether what may be a hub's name (``owner/name``) means a path: written as one, or there."""
    return text.startswith((".", "/", "~")) or text.count("/") != 1 or is_there(absolute(text))


def _dataset_source(value: object) -> Reference | LocalPath:
    source = _source(value, "dataset")
    return locate(source) if isinstance(source, str) else source


def _model_source(value: object) -> Reference | LocalPath | str:
    source = _source(value, "model")
    return locate(source) if isinstance(source, str) and is_path(source) else source


def _source(value: object, accepts: OutputKind) -> Reference | LocalPath | str:
    if isinstance(value, Reference | LocalPath):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r}: must be text: ${{step}}, a path, or a name on Hugging Face's hub")
    step = parse_reference(value)
    return value if step is None else Reference(step, accepts)


# A field that takes the output of a step of that kind, a file or folder, or, of models, a hub's name.
DatasetSource = Annotated[Reference | LocalPath, PlainValidator(_dataset_source), PlainSerializer(str)]
ModelSource = Annotated[Reference | LocalPath | str, PlainValidator(_model_source), PlainSerializer(str)]


def _file_source(value: object) -> LocalPath:
    if isinstance(value, LocalPath):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r}: must be text: the path of a file")
    return locate(value)


FileSource = Annotated[LocalPath, PlainValidator(_file_source), PlainSerializer(str)]
"""A field that takes a file of the user's."""

Seconds = Annotated[float, Field(gt=0, le=1e9)]
"""A time to wait for something. Clocks and selectors take no longer ones than decades."""

MOST_AT_ONCE = 10_000
"""Workers or replicas of one step."""


class StrictModel(BaseModel):
    """A value read from an experiment file: unknown keys are errors, nothing is coerced, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Resources(StrictModel):
    """Where and how fast a step runs. Never part of its identity."""

    retries: Retries = Field(default=Retries(), description="losses that are made good, by cause")
    timeout: Seconds | None = Field(default=None, description="seconds before the step is stopped")
    wait: Seconds = Field(default=600, description="seconds to wait for what the cluster does not have")
    machine: Annotated[str, AfterValidator(known_machine)] | None = Field(
        default=None, description="what plans and costs reckon with, such as h100 or p5.48xlarge; else h100, or cpu"
    )


@dataclass(frozen=True)
class Problem:
    """Something wrong with a config that its types cannot say, at a field: ("tasks", 0, "path")."""

    field: tuple[str | int, ...]
    message: str


@dataclass(frozen=True)
class HubName:
    """A model or a dataset on Hugging Face's hub that a config names, at a field."""

    field: tuple[str | int, ...]
    kind: Literal["model", "dataset"]
    name: str
    revision: str | None = None


@dataclass(frozen=True)
class Upcoming:
    """A step that another one takes, as a plan knows it: perhaps not run yet."""

    config: StepConfig
    output: Path | None
    """The folder that its job wrote; None until it is done."""
    found: dict[str, Any] = field(default_factory=dict, compare=False)
    """What was found out about it, by what: so that a chain of thousands is not walked from each of its steps."""


FitVerdict = Literal["fits", "barely fits", "does not fit"]

_AT_THE_EDGE = 0.95
"""Share of the memory from which fragmentation decides."""


@dataclass(frozen=True)
class Part:
    """What one part of a step would take by itself, and its share of the step, which does what parts have in common
    once."""

    name: str
    tokens: float
    """Decoded by itself."""
    share: float
    """Of the step's cost, of 1."""
    seconds: float | None = None
    device_hours: float | None = None
    usd: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a step would take, told from its config before anything starts. What is not known is left out."""

    holder: str
    """What `memory` is counted on: ``each of 16 x NVIDIA H100 80 GB``."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """Bytes by what they hold, at the moment when they are the most."""
    moment: str = ""
    """When that is: ``in the loss``."""
    available: float = math.inf
    """Bytes that there are."""
    remedies: tuple[str, ...] = ()
    """Where it does not fit: the nearest settings with which it would, one each."""
    seconds: float | None = None
    device: str = "GPU"
    """What is paid for, in the singular."""
    device_hours: float | None = None
    usd: float | None = None
    tokens: float | None = None
    """To decode, where that is what takes the time."""
    most_seconds: float | None = None
    """Where the time hangs on what nobody knows beforehand: the most that it can be."""
    most_usd: float | None = None
    parts: tuple[Part, ...] = ()
    """What makes up the step, where it has parts that can be told apart, such as a sweep's policies."""
    remarks: tuple[str, ...] = ()
    """What the figures rest on, and what is not known, a sentence each."""

    @property
    def total(self) -> float:
        """Bytes, all together."""
        return sum(self.memory.values())

    @property
    def verdict(self) -> FitVerdict:
        """Whether the memory is enough; barely where fragmentation decides."""
        if self.total > self.available:
            return "does not fit"
        return "barely fits" if self.total > _AT_THE_EDGE * self.available else "fits"


class StepConfig(StrictModel):
    """The fields of one step in an experiment file. Subclassed once per job kind, as ``Config``."""

    VERSION: ClassVar[int]
    """Raised when the same config gives another result than before: results of older versions are then recomputed."""
    PRODUCES: ClassVar[OutputKind]

    resources: Resources = Resources()

    def demands(self) -> list[dict[str, float]]:
        """The resources held at once, one dict per placement-group bundle: ``[{"CPU": 1.0}, {"CPU": 1.0}]``."""
        return [{"CPU": 1.0}]

    def bundles(self) -> list[dict[str, float]]:
        """All that must find room on one machine each, at one time or another."""
        return self.demands()

    @property
    def machine(self) -> Machine:
        """What the step is reckoned to run on: where nothing else is said and no cluster is named, this machine's
        cores."""
        if self.resources.machine:
            return machine(self.resources.machine)
        if any(bundle.get("GPU") for bundle in self.demands()):
            return machine(DEFAULT_GPU)
        return machine(CPU) if os.environ.get("RAY_ADDRESS") else this_machine()

    def too_large(self) -> str | None:
        """What no machine of the kind that it is reckoned to run on can hold, in words; None where there is nothing."""
        kind = self.machine
        bundle = next((bundle for bundle in self.bundles() if not kind.holds(bundle)), None)
        if bundle is None:
            return None
        largest = kind.types[-1] if kind.whole else max(kind.types, key=lambda each: (each.cards, each.cpus))
        has = ", ".join(f"{amount:g} {name}" for name, amount in largest.resources.items())
        asked = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
        able = [each for name in names() if (each := machine(name)).whole and each.holds(bundle)]
        alike = [each.name for each in able if each.card == kind.card] or [each.name for each in able]
        offer = f"take {' or '.join(alike)}, or ask for less" if alike else "ask for less"
        return f"{largest.name} has {has}, and {asked} must be on one machine: {offer}"

    def devices(self, bundle: Mapping[str, float]) -> float:
        """What is paid for of a placement-group bundle."""
        return bundle.get("CPU" if self.machine.device == "core" else "GPU", 0.0)

    def holds(self) -> float:
        """Devices that are paid for from start to end: all that it demands. 0 where the step says what it holds."""
        return sum(self.devices(bundle) for bundle in self.demands())

    def holds_at_most(self) -> float:
        """Devices that it may come to hold at once."""
        return sum(self.devices(bundle) for bundle in self.demands())

    def notes(self) -> list[str]:
        """What was understood other than written ("budgets sorted"), one line each."""
        return []

    def grades_on_cluster(self) -> bool:
        """Whether grading the finished step again needs the cluster: a model that judges, for one."""
        return False

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """Checks that need the file system and nothing heavy: files that are not there, or are not what they should be.

        With `contents`, all of the user's own tasks and data is read, so that nothing is found in them after what came
        before was paid for. Whoever only looks at what was done goes without.
        """
        return iter(())

    def hub_names(self) -> Iterator[HubName]:
        """What it takes from Hugging Face's hub."""
        return iter(())

    def external_inputs(self) -> Mapping[str, Path]:
        """Local files and folders that the result depends on, by field: their content enters the fingerprint."""
        return {}

    def describe(self) -> str:
        """A few words for the plan: ``17 policies x 200 items``."""
        return ""

    def estimate(self, inputs: Mapping[str, Upcoming]) -> Estimate | None:
        """Memory, time and cost, without importing anything heavy; None where there is nothing to tell.

        `inputs` are the steps that come before this one, by name: those that it takes, and what they take.
        """
        return None


class StepError(Exception):
    """Raised by a job for something its user can put right: shown as one line, without a traceback, never retried."""


@dataclass(frozen=True)
class StepInput:
    """A finished step that another step takes."""

    name: str
    fingerprint: str
    place: Place
    """The folder that its job wrote, in the store."""

    @property
    def output(self) -> Path:
        """That folder on this machine. From an object store it is fetched, once per machine. Raises StoreError."""
        if isinstance(self.place, Path):
            return self.place
        from orchestrator.working_copy import fetched_output

        return fetched_output(self.place.parent)


@dataclass(frozen=True)
class StepContext:
    """What a running step is handed. Everything in it can be pickled to other processes of the step."""

    experiment: str
    name: str
    fingerprint: str
    place: Place
    """The step's own folder in the store. It outlives attempts: a restarted step finds what it left there."""
    traces: Place
    """The folder of decoded trees, shared by all steps and experiments of the store."""
    inputs: Mapping[str, StepInput] = field(default_factory=dict)
    attempt: int = 0
    """Counts restarts of this step within this run of the experiment, from 0."""
    spent: Spending | None = None
    """What earlier attempts came to; None where there was none."""

    @property
    def folder(self) -> Path:
        """The step's folder for this process to work in: :attr:`place` itself, or a copy where that is a bucket.

        Of what is written to a copy, the store gets logs, tracked runs and single files by themselves. ``output/`` it
        gets by :meth:`deliver`, and what other processes of the step need by :meth:`share`.
        """
        return self.place if isinstance(self.place, Path) else self._copy(self.place).folder

    @property
    def output(self) -> Path:
        """Where the job writes its result. Read by others only once the step is done."""
        return self.folder / "output"

    def deliver(self) -> None:
        """Says that what this process wrote to :attr:`output` is whole. Raises StoreError where it cannot be stored."""
        if not isinstance(self.place, Path):
            self._copy(self.place).deliver()

    def check_out(self, *parts: str) -> None:
        """Brings what the store has below these folders of the step, for a process that goes on with it."""
        if not isinstance(self.place, Path):
            for part in parts:
                self._copy(self.place).fetch(part)

    def send(self) -> None:
        """Sees that what was logged and tracked until now is in the store. Raises StoreError."""
        if not isinstance(self.place, Path):
            self._copy(self.place).send()

    def leave(self) -> None:
        """Called last by every process of a step, and by others that looked into it."""
        sys.stdout.flush()
        sys.stderr.flush()
        if not isinstance(self.place, Path):
            self._copy(self.place).leave()

    def share(self, name: str) -> None:
        """Lets the other processes of the step have ``folder/<name>``, which must not change any more."""
        if not isinstance(self.place, Path):
            from orchestrator.working_copy import share

            share(self.place, name, self.folder / name)

    def shared(self, name: str) -> Path:
        """Where :meth:`share` put it, for this process; where it is to be written, if that was not done yet."""
        if isinstance(self.place, Path):
            return self.place / name
        from orchestrator.working_copy import shared

        return shared(self.place, name) or self.folder / name

    def unshare(self, name: str) -> None:
        """Removes what was shared."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        if not isinstance(self.place, Path):
            from orchestrator.working_copy import unshare

            unshare(self.place, name)

    @staticmethod
    def _copy(place: UPath) -> WorkingCopy:
        from orchestrator.working_copy import working_copy

        return working_copy(place)

    def input(self, reference: Reference) -> StepInput:
        """The finished step that a :class:`Reference` of the config names."""
        return self.inputs[reference.step]

    def progress(self, done: float, total: float, unit: str, left: float | None = None) -> None:
        """Says how far the step is, in `unit` ("steps", "tokens"); shown by ``run`` and ``status``.

        `left` are the seconds that it will still take, where the step knows better than its share of `total` tells.
        """
        record = {"done": done, "total": total, "unit": unit, "left": left, "time": time.time()}
        write_note(self.folder / "progress.json", record, durable=False)

    def hold(self, held: Held) -> None:
        """Says what this attempt holds, where its config does not."""
        write_note(self.folder / "held.json", {**asdict(held), "time": time.time()}, durable=False)

    def lost(self, counts: Mapping[str, int], reason: str) -> None:
        """Says that the step goes on after a loss: how many there were by cause, and why the last; for ``status``."""
        write_note(self.place / "losses.json", {"counts": dict(counts), "reason": reason}, durable=False)

    def redirect_output(self, process: str) -> None:
        """Sends this process's output, and its future children's, to ``logs/<process>.txt`` of the step's folder.

        Called first thing by every process of a step (controller, ranks, replicas), so that one folder tells it all.
        """
        path = self.folder / "logs" / f"{process}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(self.place, Path):
            self._copy(self.place).fetch_file(f"logs/{process}.txt")  # what an earlier attempt said
            self._copy(self.place).keep_sending()
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

    def use_traces(self, folder: Place) -> None:
        """Notes that the step's result stands on a folder of :attr:`traces`, so that it is not taken for garbage."""
        path = self.place / "uses.json"
        write_json_atomically(path, sorted({*(read_passing(path, list[str]) or []), folder.name}))

    def track(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None, group: str | None = None
    ) -> TrackedRun:
        """A run of the tracking server, called `name`, that belongs to this step.

        `group` None puts it with the experiment's curves; a word keeps it apart (``training``), so that the page of
        curves shows nothing else.
        """
        folder = folder_name(name)
        if not isinstance(self.place, Path):
            self._copy(self.place).fetch(f"tracked/{folder}")
            self._copy(self.place).keep_sending()
        return TrackedRun(self.folder / "tracked" / folder, name, params, tags or {}, group)
