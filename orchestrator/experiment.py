"""The experiment file as a typed object, or everything that is wrong with it, a line each.

Everything that can be known before Ray, torch or vLLM is imported is checked here: YAML, types, names, references,
cycles, and the files that a step says it needs. All problems are collected before anything is reported, so a file is
corrected once.
"""

from __future__ import annotations

import gc
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from orchestrator.complaints import (
    LONGEST_MESSAGE,
    SHOWN,
    Complaint,
    ExperimentError,
    dotted,
    explained,
    listed,
    offer,
    shown,
)
from orchestrator.job.config import StepConfig
from orchestrator.job.local_files import absolute, content, is_there, user
from orchestrator.job.references import Reference, parse_reference
from orchestrator.job.strict_model import StrictModel
from orchestrator.overrides import override
from orchestrator.registry import JOBS
from orchestrator.store import storage
from orchestrator.store.step_folders import NAME
from orchestrator.terminal import one_line
from orchestrator.yaml_positions import MAX_COMPLAINTS, Document, YamlError, parse
from orchestrator.yaml_positions import Path as ValuePath

M = TypeVar("M", bound=BaseModel)

LARGEST_FILE = 4 << 20
"""Bytes of an experiment: ten thousand steps have two million."""

LONGEST_NAME = 300
"""Characters of an experiment's name."""

DEFAULT_STORE = "runs"
DEFAULT_TRACKING = "sqlite:///mlflow.db"


@dataclass(frozen=True)
class Step:
    """One step of an experiment, typed and checked."""

    name: str
    kind: str
    config: StepConfig

    def references(self) -> tuple[Reference, ...]:
        """The references anywhere in its config, in the order of its fields."""
        return self._references

    @cached_property
    def _references(self) -> tuple[Reference, ...]:
        return tuple(_references(self.config))


@dataclass(frozen=True)
class Experiment:
    """A whole experiment file. Steps are in an order in which each comes after those it refers to."""

    name: str
    steps: Mapping[str, Step]
    store: str
    tracking: str
    wandb: str
    """Where offline runs of Weights & Biases go; empty: nowhere."""
    notes: tuple[str, ...]
    """What was understood other than written."""
    file: str
    """Where it was read from."""
    document: Document = field(repr=False, compare=False)
    """What is written there."""
    max_cost: float | None = None
    """USD that all attempts at its steps may come to; None: any."""
    overrides: tuple[str, ...] = ()
    """What was changed of it when it was read: ``KEY=VALUE``."""


class TopLevel(StrictModel):
    """The keys of an experiment file outside its steps. None of them is part of any step's identity."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    description: str = ""
    store: str | None = Field(default=None, min_length=1, max_length=1000)
    tracking: str | None = Field(default=None, min_length=1, max_length=1000)
    wandb: str | None = Field(default=None, min_length=1, max_length=1000)
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    steps: dict[str, dict[str, Any]] = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError(f"{shown(value)} is not a name: letters of any script, on one line, no space around them")
        return value

    @field_validator("store")
    @classmethod
    def _can_be_had(cls, value: str | None) -> str | None:
        if value is not None and (problem := storage.complaint(value)):
            raise ValueError(problem)
        return value

    @field_validator("wandb")
    @classmethod
    def _is_a_folder(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError(f"{shown(value)} is not a local folder: wandb sync uploads what is in one")
        return value

    @field_validator("store", "tracking", "wandb")
    @classmethod
    def _is_somewhere(cls, value: str | None) -> str | None:
        if value is not None:
            _located(value, base_folder())
        return value


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles among objects, which takes half the time of reading 100,000 values."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_no_collection()
def load(path: Path, overrides: tuple[str, ...] = (), contents: bool = True) -> Experiment:
    """Reads and checks an experiment file, with ``--set`` overrides applied, and the user's files that it names.

    Of tasks and data all rows are read, unless `contents` is false: for those who only look at what was done.

    Raises ExperimentError with all that is wrong.
    """
    file = str(path)
    if not is_there(path):
        raise ExperimentError(file, [Complaint(1, "cannot be read: No such file or directory")])
    try:
        text = content(path, LARGEST_FILE).decode()
    except UnicodeDecodeError as error:
        raise ExperimentError(
            file, [Complaint(1, f"is not UTF-8 text: byte {error.start} is {error.reason}")]
        ) from None
    except ValueError as error:
        raise ExperimentError(file, [Complaint(1, f"{error}: give an experiment")]) from None
    try:
        document = parse(text)
    except YamlError as error:
        raise ExperimentError(file, [Complaint(line, message) for line, message in error.complaints]) from None
    if not isinstance(document.value, dict):
        raise ExperimentError(file, [Complaint(1, "an experiment is a mapping with the keys name and steps")])
    complaints = [Complaint(1, message) for setting in overrides for message in override(document, setting)]
    return replace(_Checker(file, document, complaints, contents).check(), overrides=overrides)


class _Checker:
    """Collects complaints over one document."""

    def __init__(self, file: str, document: Document, complaints: list[Complaint], contents: bool):
        self.file = file
        self.document = document
        self.complaints = complaints
        self.contents = contents

    def complain(self, path: ValuePath, message: str) -> None:
        """Notes what is wrong at `path`. Raises ExperimentError where that is more than anybody will read."""
        self.complaints.append(Complaint(self.document.line(path), message))
        if len(self.complaints) >= MAX_COMPLAINTS:
            raise ExperimentError(self.file, self.complaints)

    def check(self) -> Experiment:
        data = self.document.value
        top = self._validate(TopLevel, data, ())
        raw_steps = data.get("steps")
        steps: dict[str, Step] = {}
        names = dict.fromkeys(raw_steps) if isinstance(raw_steps, dict) else {}
        for name in names:
            raw = raw_steps[name]
            if isinstance(raw, dict) and (step := self._step(name, raw, names)) is not None:
                steps[name] = step
        if isinstance(data, dict) and not data.get("store"):
            location = os.environ.get("ORCHESTRATOR_STORE", "")
            if problem := storage.complaint(location):
                self.complain((), f"ORCHESTRATOR_STORE: {problem}")
            self._see("ORCHESTRATOR_STORE")
        if isinstance(data, dict) and not data.get("tracking"):
            self._see("MLFLOW_TRACKING_URI")
        if isinstance(data, dict) and not data.get("wandb"):
            self._see("ORCHESTRATOR_WANDB")
        if top is not None and top.max_cost is not None:
            for name, step in steps.items():
                for unlimited in step.config.unlimited():
                    field = ("steps", name, *unlimited.field)
                    self.complain(field, f"{dotted(field)}: {unlimited.message}")
        ordered = self._order(steps, raw_steps if isinstance(raw_steps, dict) else {})
        if self.complaints or top is None:
            raise ExperimentError(self.file, self.complaints)
        store, tracking, wandb = located(top.store, top.tracking, top.wandb)
        return Experiment(
            name=top.name,
            steps={name: steps[name] for name in ordered},
            store=store,
            tracking=tracking,
            wandb=wandb,
            max_cost=top.max_cost,
            notes=_notes([f"{name}: {note}" for name in ordered for note in _noted(steps[name].config)]),
            file=self.file,
            document=self.document,
        )

    def _see(self, variable: str) -> None:
        try:
            _located(os.environ.get(variable, ""), base_folder())
        except ValueError as error:
            self.complain((), f"{variable}: {error}")

    def _step(self, name: str, raw: dict[str, Any], names: Mapping[str, None]) -> Step | None:
        at: ValuePath = ("steps", name)
        if not NAME.fullmatch(name):
            self.complain(at, f"steps: {name!r} cannot be a step's name: letters, digits, _ and -, at most 64")
        kind = raw.get("job")
        if "job" not in raw:
            self.complain(at, f"steps.{name}: has no job; write one of {listed(list(JOBS))}")
            return None
        if not isinstance(kind, str) or kind not in JOBS:
            self.complain((*at, "job"), f"steps.{name}.job: there is no job {shown(kind)}; {offer(kind, list(JOBS))}")
            return None
        fields = {key: value for key, value in raw.items() if key != "job"}
        references = list(self._reference_targets(fields, at, names))
        config = self._validate(JOBS[kind].config.reading(fields), fields, at)
        if config is None:
            return None
        step = Step(name, kind, config)
        for problem in config.problems(self.contents):
            self.complain((*at, *problem.field), f"{dotted((*at, *problem.field))}: {problem.message}")
        for path, value in _leaves(fields, at):
            if isinstance(value, float) and not math.isfinite(value):
                self.complain(path, f"{dotted(path)}: {value}: must be a finite number")
        if config.resources.machine is not None and (large := config.too_large()) is not None:
            field = (*at, "resources", "machine")
            self.complain(field, f"{dotted(field)}: {large}")
        taken = {reference.step for reference in step.references()}
        for path, target in references:
            if target not in taken:
                self.complain(path, f"{dotted(path)}: ${{{target}}} stands where no step's output is taken")
        return step

    def _reference_targets(
        self, fields: dict[str, Any], at: ValuePath, names: Mapping[str, None]
    ) -> Iterator[tuple[ValuePath, str]]:
        """Where a step's values refer to which other step. Complains of those that are not there."""
        for path, value in _leaves(fields, at):
            target = parse_reference(value)
            if target is None:
                if isinstance(value, str) and "${" in value:
                    self.complain(path, f"{dotted(path)}: {shown(value)}: a reference is the whole value, ${{step}}")
            elif target not in names:
                self.complain(path, f"{dotted(path)}: there is no step {target!r}; {offer(target, names)}")
            else:
                yield path, target

    def _validate(self, model: type[M], data: Any, at: ValuePath) -> M | None:
        """The typed value, or None after complaining about each of its errors.

        Through JSON, whose strict mode takes a list for a tuple, as YAML has only lists.
        """
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            for path, message in explained(error, data, model):
                self.complain((*at, *path), f"{dotted((*at, *path))}: {message}".removeprefix(": "))
        return None

    def _order(self, steps: Mapping[str, Step], raw_steps: Mapping[str, Any]) -> list[str]:
        """Step names, each after those it refers to. Complains of cycles and of outputs of the wrong kind."""
        needs: dict[str, list[str]] = {}
        for name, raw in raw_steps.items():
            targets = [parse_reference(value) for _, value in _leaves(raw, ())]
            needs[name] = [target for target in targets if target is not None and target in raw_steps]
        ordered: dict[str, None] = {}
        for root in raw_steps:
            visiting = {root: iter(needs[root])}
            while visiting and root not in ordered:
                name = next(reversed(visiting))
                need = next(visiting[name], None)
                if need is None:
                    del visiting[name]
                    ordered[name] = None
                elif need in visiting:
                    names = list(visiting)
                    cycle = [*names[names.index(need) :], need]
                    path = cycle if len(cycle) <= 10 else [*cycle[:5], f"{len(cycle) - 9} more", *cycle[-4:]]
                    self.complain(("steps", need), f"steps.{need}: is part of a cycle: {' -> '.join(path)}")
                elif need not in ordered:
                    visiting[need] = iter(needs[need])
        for name, step in steps.items():
            for reference in step.references():
                target = steps.get(reference.step)
                if target is not None and not issubclass(target.config.PRODUCES, reference.accepts):
                    self.complain(
                        ("steps", name),
                        f"steps.{name}: {reference} is a {target.kind} step, which makes {target.config.PRODUCES.KIND};"
                        f" a {reference.accepts.KIND} is needed there",
                    )
        return [name for name in ordered if name in steps]


def _noted(config: StepConfig) -> Iterator[str]:
    """What a step understood other than written, and where what it is assumed to run on would be too small."""
    yield from config.notes()
    if config.resources.machine is None and (large := config.too_large()) is not None:
        yield f"resources.machine is not set, and the one assumed is too small: {large}"


def _notes(notes: list[str]) -> tuple[str, ...]:
    lines = [one_line(note, LONGEST_MESSAGE) for note in notes[:SHOWN]]
    return (*lines, f"and {len(notes) - SHOWN:,} notes more") if len(notes) > SHOWN else tuple(lines)


def _references(value: Any) -> Iterator[Reference]:
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)


def _leaves(value: Any, at: ValuePath) -> Iterator[tuple[ValuePath, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, index))
    else:
        yield at, value


def base_folder() -> Path:
    """What relative store and tracking locations are relative to.

    The working folder, unless that is a copy that Ray unpacked for one job (``--working-dir``): it is deleted after the
    job, and results with it. Then ``~/.orchestrator``, which is there for the next job too.
    """
    here = absolute(".")
    return Path.home() / ".orchestrator" if "runtime_resources" in here.parts else here


def located(store: str | None = None, tracking: str | None = None, wandb: str | None = None) -> tuple[str, str, str]:
    """Where results, tracked runs and offline runs of Weights & Biases (empty: nowhere) go: where a file says, else the
    environment. Raises ValueError.
    """
    base = base_folder()
    beside = wandb or os.environ.get("ORCHESTRATOR_WANDB")
    return (
        _located(store or os.environ.get("ORCHESTRATOR_STORE") or DEFAULT_STORE, base),
        _located(tracking or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING, base),
        _located(beside, base) if beside else "",
    )


def _located(location: str, base: Path) -> str:
    for prefix in ("sqlite:///", ""):
        if location.startswith(prefix) and "://" not in location.removeprefix(prefix):
            return f"{prefix}{base / user(location.removeprefix(prefix))}"
    return location
