"""The fields of an ``evaluate`` step: a model, tasks, and the grid of policies to compare on them.

Light: every experiment file is checked against it before torch, ray or an engine is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.policies import Policy, grid, ordered
from jobs.evaluate.server import Server
from jobs.evaluate.tasks.config import TaskConfig
from jobs.template import TEMPLATES
from orchestrator.step import ModelSource, OutputKind, Problem, Reference, Resources, StepConfig, StrictModel

MAX_LENGTH = 2**31 - 1
"""Tokens. No budget or count beyond it can mean anything, and no engine counts further."""

MOST_SAMPLES = 1024
"""Of an item. The ways to take half of them, 4.5e306, are still a float: majority@k counts them."""

EngineName = Literal["transformers", "vllm", "openai"]
Items = TypeVar("Items", bound=tuple[Any, ...])


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_LENGTH


def _length(value: Any) -> Any:
    if value == "auto" or _is_length(value):
        return value
    raise ValueError(f"{value!r} is no number of tokens: give a whole number from 1, or auto")


def _count(value: Any) -> Any:
    if _is_length(value):
        return value
    raise ValueError(f"{value!r} is no count of extensions: give whole numbers from 1 (0 is what budgets already do)")


def _filled(values: Items) -> Items:
    if not values:
        raise ValueError("the list is empty: give at least one")
    return values


def _template(value: str) -> str:
    if value not in TEMPLATES:
        raise ValueError(f"unknown template {value!r}: known are {', '.join(sorted(TEMPLATES))}")
    return value


def _tokens(budgets: Sequence[int | str]) -> tuple[int | None, ...]:
    """Budgets as policies count them: ascending, each once, None for ``auto``."""
    return ordered(None if isinstance(budget, str) else budget for budget in budgets)


def _canonical_budgets(budgets: Sequence[int | str]) -> list[int | str]:
    """Budgets mean the same in any order, so what identifies a step has them in one."""
    return ["auto" if budget is None else budget for budget in _tokens(budgets)]


Length = Annotated[int | Literal["auto"], BeforeValidator(_length)]
Budgets = Annotated[tuple[Length, ...], AfterValidator(_filled), PlainSerializer(_canonical_budgets)]
Count = Annotated[int, BeforeValidator(_count)]
Counts = Annotated[tuple[Count, ...], AfterValidator(_filled), PlainSerializer(lambda counts: sorted(set(counts)))]


class Extensions(StrictModel):
    """Strings that replace the model's own end of thinking, each tried at each count."""

    strings: Annotated[tuple[str, ...], AfterValidator(_filled)] = Field(description='"" only forbids the end')
    counts: Counts
    budgets: Budgets = Field(default=("auto",), description="the thinking budgets within which they are tried")


class Replicas(StrictModel):
    """How many copies of the model decode at once; between the two, as the work asks."""

    min: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}: give min <= max")
        return self


class EvaluateResources(Resources):
    """What each replica of the model holds, and how much it is given at a time."""

    replicas: Replicas = Replicas()
    cpus: int = Field(default=1, ge=1, description="CPU cores of one replica")
    gpus: int = Field(default=0, ge=0, description="GPUs of one replica; vllm splits the model over them")
    in_flight: int = Field(default=64, ge=1, description="traces that a replica decodes at once")
    server: Server | None = Field(default=None, description="engine openai: where the model is served")


_SERVED = {
    "served_model": "the name by which the server knows the model",
    "resources.server": "give at least {url: http://…/v1}",
}


class Config(StepConfig):
    """One sweep: every policy of the grid, on every item of the tasks."""

    VERSION: ClassVar[int] = 1
    PRODUCES: ClassVar[OutputKind] = "curves"

    model: ModelSource = Field(description="${step}, a folder in Hugging Face's layout, or a model's name on its hub")
    tasks: Annotated[tuple[TaskConfig, ...], AfterValidator(_filled)]
    budgets: Budgets = ("auto",)
    extensions: Extensions | None = None
    template: Annotated[str, AfterValidator(_template)] = Field(default="think", description="delimiters of thinking")
    samples: int = Field(default=1, ge=1, le=MOST_SAMPLES, description="traces per item")
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="0: greedy")
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=MAX_LENGTH)
    max_answer_tokens: Length = Field(default="auto", description="auto: an eighth of the context")
    context_length: Length = Field(default="auto", description="auto: what the model was made for")
    engine: Literal["auto", "transformers", "vllm", "openai"] = Field(
        default="auto", description="auto: vllm on GPUs, else transformers"
    )
    served_model: str | None = Field(default=None, min_length=1, description="engine openai: the server's name for it")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto: the model's own")
    resources: EvaluateResources = EvaluateResources()

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples: {self.samples} needs a temperature above 0: greedy samples are all the same")
        if self.top_p < 1 and self.temperature == 0:
            raise ValueError(f"top_p: {self.top_p} needs a temperature above 0: greedy decoding does not use it")
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tasks: {name!r} is there twice: give each task a name of its own")
        return self

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        """A server is said where one decodes, and what a server decides is not said here too."""
        served = {"served_model": self.served_model, "resources.server": self.resources.server}
        if self.engine != "openai":
            for name, value in served.items():
                if value is not None:
                    raise ValueError(f"{name}: engine {self.engine} has no server: leave it out, or set engine: openai")
            return self
        for name, value in served.items():
            if value is None:
                raise ValueError(f"engine: openai needs {name}: {_SERVED[name]}")
        if self.dtype != "auto":
            raise ValueError(f"dtype: {self.dtype} is not ours to choose with engine openai: set it on the server")
        if self.resources.gpus:
            raise ValueError(
                f"resources.gpus: {self.resources.gpus} would idle: with engine openai the server has them"
            )
        return self

    @property
    def policies(self) -> tuple[Policy, ...]:
        """What is compared, in the order of tables."""
        budgets = _tokens(self.budgets)
        if self.extensions is None:
            return grid(budgets)
        extensions = self.extensions
        return grid(budgets, extensions.strings, extensions.counts, _tokens(extensions.budgets))

    @property
    def engine_name(self) -> EngineName:
        """The engine that decodes."""
        if self.engine != "auto":
            return self.engine
        return "vllm" if self.resources.gpus else "transformers"

    def replica_demand(self) -> dict[str, float]:
        """The one placement-group bundle of a replica."""
        demand = {"CPU": float(self.resources.cpus)}
        return demand | {"GPU": float(self.resources.gpus)} if self.resources.gpus else demand

    def demands(self) -> list[dict[str, float]]:
        """What the sweep needs at least; it takes up to ``replicas.max`` such bundles when they are free."""
        return [self.replica_demand()] * self.resources.replicas.min

    def notes(self) -> list[str]:
        """Lists that were understood as sets."""
        given: list[tuple[str, Sequence[object], Sequence[object]]] = [
            ("budgets", self.budgets, _canonical_budgets(self.budgets))
        ]
        if self.extensions is not None:
            extensions = self.extensions
            given.append(("extensions.strings", extensions.strings, list(dict.fromkeys(extensions.strings))))
            given.append(("extensions.counts", extensions.counts, sorted(set(extensions.counts))))
            given.append(("extensions.budgets", extensions.budgets, _canonical_budgets(extensions.budgets)))
        return [
            f"{name}: {list(written)} taken as {list(understood)}"
            for name, written, understood in given
            if list(written) != list(understood)
        ]

    def problems(self) -> Iterator[Problem]:
        """Files that are not there, seen before anything heavy is loaded."""
        for index, task in enumerate(self.tasks):
            yield from task.problems(("tasks", index))
        folder = self.model_folder
        if folder is None:
            return
        if not folder.is_dir():
            yield Problem(("model",), f"{self.model!r} is no folder: give a model's folder, its hub name or ${{step}}")
        elif not (folder / "config.json").is_file():
            yield Problem(("model",), f"{self.model!r} has no config.json: give a folder in Hugging Face's layout")
        elif not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            yield Problem(("model",), f"{self.model!r} has no tokenizer.json: save the model's tokenizer beside it")

    def external_inputs(self) -> Mapping[str, Path]:
        """The user's own task files and model folder."""
        files = {f"tasks.{index}.path": task.file for index, task in enumerate(self.tasks)}
        return {name: path for name, path in (files | {"model": self.model_folder}).items() if path is not None}

    def describe(self) -> str:
        """``17 policies x 200 items``."""
        counts = [task.known_items() for task in self.tasks]
        known = sum(count for count in counts if count is not None)
        items = f"{known or '?'} items" if None not in counts else f"{known} items and more" if known else "? items"
        samples = f" x {self.samples} samples" if self.samples > 1 else ""
        return f"{len(self.policies)} policies x {items}{samples}"

    @property
    def model_folder(self) -> Path | None:
        """The model when it is a local folder: written as a path, or there. Else it is a step's or the hub's."""
        if isinstance(self.model, Reference):
            return None
        path = Path(self.model).expanduser()
        written_as_path = self.model.startswith((".", "/", "~")) or self.model.count("/") != 1
        return path if written_as_path or path.exists() else None
