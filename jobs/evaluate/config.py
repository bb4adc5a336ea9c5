"""The fields of an ``evaluate`` step: a model, tasks, and the grid of policies to compare on them.

Light: every experiment file is checked against it before torch, ray or an engine is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.grading.config import Judge, JudgeResources
from jobs.evaluate.policies import Policy, Wish, conditional, grid, no_forcing, ordered, rejection, step_budgets
from jobs.evaluate.server import Server
from jobs.evaluate.tasks.config import TaskConfig
from jobs.model_folder import folder_problems, local_folder
from jobs.template import TEMPLATES, ThinkingTemplate
from orchestrator.step import ModelSource, OutputKind, Problem, Resources, StepConfig, StrictModel

MAX_LENGTH = 2**31 - 1
"""Tokens. No budget or count beyond it can mean anything, and no engine counts further."""

MOST_SAMPLES = 1024
"""Of an item. The ways to take half of them, 4.5e306, are still a float: majority@k counts them."""

BATCH_INVARIANT_COSTS = (
    "batch_invariant: slower: attention in one split, matrix products without split-K and TF32, no fused all-reduce, "
    "and NCCL on one channel"
)

EngineName = Literal["transformers", "vllm", "openai"]
Items = TypeVar("Items", bound=tuple[Any, ...])


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_LENGTH


def _length(value: Any) -> Any:
    if value == "auto" or _is_length(value):
        return value
    raise ValueError(f"{value!r} is no number of tokens: give a whole number from 1, or auto")


def _limit(value: Any) -> Any:
    if _is_length(value):
        return value
    raise ValueError(f"{value!r} is no limit of thinking: give a whole number from 1")


def _count(value: Any) -> Any:
    if _is_length(value):
        return value
    raise ValueError(f"{value!r} is no count of extensions: give whole numbers from 1 (0 is what budgets already do)")


def _filled(values: Items) -> Items:
    if not values:
        raise ValueError("the list is empty: give at least one")
    return values


def _tokens(budgets: Sequence[int | str]) -> tuple[int | None, ...]:
    """Budgets as policies count them: ascending, each once, None for ``auto``."""
    return ordered(None if isinstance(budget, str) else budget for budget in budgets)


def _canonical_budgets(budgets: Sequence[int | str]) -> list[int | str]:
    """Budgets mean the same in any order, so what identifies a step has them in one."""
    return ["auto" if budget is None else budget for budget in _tokens(budgets)]


def _words(classes: Iterable[str]) -> list[str]:
    """Classes in their order: short, long."""
    return sorted(set(classes), reverse=True)


Length = Annotated[int | Literal["auto"], BeforeValidator(_length)]
Budgets = Annotated[tuple[Length, ...], AfterValidator(_filled), PlainSerializer(_canonical_budgets)]
Count = Annotated[int, BeforeValidator(_count)]
Counts = Annotated[tuple[Count, ...], AfterValidator(_filled), PlainSerializer(lambda counts: sorted(set(counts)))]
Limit = Annotated[int, BeforeValidator(_limit)]
Limits = Annotated[tuple[Limit, ...], AfterValidator(_filled), PlainSerializer(lambda limits: sorted(set(limits)))]
Together = Annotated[tuple[Count, ...], AfterValidator(_filled), PlainSerializer(lambda counts: sorted(set(counts)))]
Words = Annotated[tuple[Literal["short", "long"], ...], AfterValidator(_filled), PlainSerializer(_words)]


class Extensions(StrictModel):
    """Strings that replace the model's own end of thinking, each tried at each count."""

    strings: Annotated[tuple[str, ...], AfterValidator(_filled)] = Field(description='"" only forbids the end')
    counts: Counts
    budgets: Budgets = Field(default=("auto",), description="the thinking budgets within which they are tried")


class Conditional(StrictModel):
    """Control by a sentence at the end of the question: ``Think for up to 1024 tokens.``"""

    tokens: Limits | None = Field(default=None, description="of thinking, at most")
    steps: Limits | None = Field(default=None, description="of thinking, at most")
    classes: Words | None = Field(default=None, description="short, long")
    budget_forcing: bool = Field(default=False, description="also each with thinking cut at what was asked for")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.tokens is None and self.steps is None and self.classes is None:
            raise ValueError("nothing is asked for: give tokens, steps or classes")
        return self

    @property
    def wishes(self) -> Iterator[Wish]:
        """What is asked for, each once."""
        yield from (Wish("token", tokens) for tokens in sorted(set(self.tokens or ())))
        yield from (Wish("step", steps) for steps in sorted(set(self.steps or ())))
        yield from (Wish("class", word) for word in _words(self.classes or ()))


class Rejection(StrictModel):
    """Sampling again until thinking ends by itself within a limit. The samples of each item are what is drawn from."""

    limits: Limits = Field(description="tokens of thinking, at most")
    max_tries: int = Field(ge=1, description="samples looked at before there is no answer; at most `samples`")


class Template(StrictModel):
    """How the model marks its thinking: a style by name, or delimiters of its own.

    Three spellings: ``think``, ``auto`` (what the tokenizer has), ``{open: "<reason>", close: "</reason>"}``. A model
    trained to write a header before each step has it as `step`: ``{name: think, step: "<step>"}``.
    """

    name: str | None = None
    open: str | None = Field(default=None, min_length=1)
    close: str | None = Field(default=None, min_length=1)
    step: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one_of_the_three(self) -> Self:
        if self.name is None:
            if self.open is None or self.close is None:
                raise ValueError("give a name, or both open and close")
        elif self.open is not None or self.close is not None:
            raise ValueError(f"{self.name!r} has delimiters of its own: give a name, or open and close")
        elif self.name not in _TEMPLATE_NAMES:
            raise ValueError(f"unknown template {self.name!r}: known are {', '.join(_TEMPLATE_NAMES)}")
        elif self.name == "auto" and self.step is not None:
            raise ValueError("auto cannot have a step: give it with a style's name, or with open and close")
        return self

    def __str__(self) -> str:
        named = self.name or f"{self.open} … {self.close}"
        return named if self.step is None else f"{named}, steps {self.step}"

    @property
    def style(self) -> ThinkingTemplate | None:
        """What it stands for; None for ``auto``, which only the tokenizer can say."""
        if self.open is not None and self.close is not None:
            return ThinkingTemplate(str(self), self.open, self.close, step=self.step)
        named = TEMPLATES.get(self.name or "")
        return named and replace(named, step=self.step)


_TEMPLATE_NAMES = ("auto", *sorted(TEMPLATES))


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
    judge: JudgeResources = JudgeResources()
    token_deadline: float = Field(
        default=600, gt=0, allow_inf_nan=False, description="seconds without any token before a replica is replaced"
    )


_SERVED = {
    "served_model": "the name by which the server knows the model",
    "resources.server": "give at least {url: http://…/v1}",
}


class Config(StepConfig):
    """One sweep: every policy of the grid, on every item of the tasks."""

    VERSION: ClassVar[int] = 2
    PRODUCES: ClassVar[OutputKind] = "curves"

    model: ModelSource = Field(description="${step}, a folder in Hugging Face's layout, or a model's name on its hub")
    tasks: Annotated[tuple[TaskConfig, ...], AfterValidator(_filled)]
    budgets: Budgets = ("auto",)
    extensions: Extensions | None = None
    step_budgets: Limits | None = Field(default=None, description="steps of thinking; the template needs their header")
    baseline: bool = Field(default=False, description="also the model's own end of thinking, with nothing forced")
    conditional: Conditional | None = None
    rejection: Rejection | None = None
    template: Template = Field(default=Template(name="think"), description="a style's name, auto, or {open, close}")
    samples: int = Field(default=1, ge=1, le=MOST_SAMPLES, description="traces per item")
    together: Together | None = Field(default=None, description="the k of pass@k and majority@k; None: 1, 2, 4, 8 …")
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
    batch_invariant: bool = Field(
        default=False, description="the same tokens whatever shares a batch, with slower kernels; vllm on GPUs"
    )
    judge: Judge | None = Field(default=None, description="who compares the answers of tasks of type judged")
    resources: EvaluateResources = EvaluateResources()

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples: {self.samples} needs a temperature above 0: greedy samples are all the same")
        if self.top_p < 1 and self.temperature == 0:
            raise ValueError(f"top_p: {self.top_p} needs a temperature above 0: greedy decoding does not use it")
        if self.step_budgets is not None and self.template.step is None:
            raise ValueError(
                'step_budgets: needs the header of a step: give template: {name: think, step: "<step>"}, with yours'
            )
        if self.rejection is not None and self.temperature == 0:
            raise ValueError("rejection: needs a temperature above 0: greedy samples are all the same")
        if self.rejection is not None and self.rejection.max_tries > self.samples:
            raise ValueError(
                f"rejection: max_tries {self.rejection.max_tries} is more than the {self.samples} samples it draws "
                "from: raise samples, or lower max_tries"
            )
        if self.batch_invariant and (self.engine_name != "vllm" or not self.resources.gpus):
            raise ValueError(
                f"batch_invariant: true is for vllm on GPUs, and this is {self.engine_name} with "
                f"{self.resources.gpus} GPUs: set resources.gpus, or leave it out"
            )
        if self.together is not None and max(self.together) > self.samples:
            raise ValueError(
                f"together: {max(self.together)} is more than the {self.samples} samples that each item has: raise "
                "samples, or lower it"
            )
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tasks: {name!r} is there twice: give each task a name of its own")
        return self

    @model_validator(mode="after")
    def _has_a_judge_where_one_is_needed(self) -> Self:
        judged = [task.name for task in self.tasks if task.answers == "judged"]
        if judged and self.judge is None:
            raise ValueError(
                f"judge: task {judged[0]!r} is of type judged: give judge: {{model: …}}, or its answers another type"
            )
        if self.judge is None:
            return self
        if not judged:
            raise ValueError("judge: no task is of type judged: leave it out, or give a task type: judged")
        if (self.judge.engine == "openai") != (self.resources.judge.server is not None):
            raise ValueError("resources.judge.server: is where a judge of engine openai is: give both or neither")
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
        found = grid(_tokens(self.budgets))
        if self.extensions is not None:
            extensions = self.extensions
            found = grid(_tokens(self.budgets), extensions.strings, extensions.counts, _tokens(extensions.budgets))
        found += step_budgets(self.step_budgets or ())
        if self.baseline:
            found += no_forcing()
        if self.conditional is not None:
            found += conditional(
                self.conditional.wishes, self.conditional.budget_forcing, self.template.step is not None
            )
        if self.rejection is not None:
            found += rejection(self.rejection.limits, self.rejection.max_tries)
        return found

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
        """Lists that were understood as sets, and what costs more than it looks."""
        given: list[tuple[str, Sequence[object], Sequence[object]]] = [
            ("budgets", self.budgets, _canonical_budgets(self.budgets))
        ]
        if self.extensions is not None:
            extensions = self.extensions
            given.append(("extensions.strings", extensions.strings, list(dict.fromkeys(extensions.strings))))
            given.append(("extensions.counts", extensions.counts, sorted(set(extensions.counts))))
            given.append(("extensions.budgets", extensions.budgets, _canonical_budgets(extensions.budgets)))
        if self.step_budgets is not None:
            given.append(("step_budgets", self.step_budgets, sorted(set(self.step_budgets))))
        if self.conditional is not None:
            asked = self.conditional
            given.append(("conditional.tokens", asked.tokens or (), sorted(set(asked.tokens or ()))))
            given.append(("conditional.steps", asked.steps or (), sorted(set(asked.steps or ()))))
            given.append(("conditional.classes", asked.classes or (), _words(asked.classes or ())))
        if self.rejection is not None:
            given.append(("rejection.limits", self.rejection.limits, sorted(set(self.rejection.limits))))
        if self.together is not None:
            given.append(("together", self.together, sorted(set(self.together))))
        notes = [
            f"{name}: {list(written)} taken as {list(understood)}"
            for name, written, understood in given
            if list(written) != list(understood)
        ]
        return notes + [BATCH_INVARIANT_COSTS] * self.batch_invariant

    def grades_on_cluster(self) -> bool:
        """A judge is a model."""
        return self.judge is not None

    def problems(self) -> Iterator[Problem]:
        """Files that are not there, seen before anything heavy is loaded."""
        for index, task in enumerate(self.tasks):
            yield from task.problems(("tasks", index))
        yield from folder_problems(self.model)
        if self.judge is not None:
            for problem in folder_problems(self.judge.model):
                yield replace(problem, field=("judge", *problem.field))

    def external_inputs(self) -> Mapping[str, Path]:
        """The user's own task files and model folders."""
        files = {f"tasks.{index}.path": task.file for index, task in enumerate(self.tasks)}
        files["model"] = self.model_folder
        files["judge.model"] = None if self.judge is None else local_folder(self.judge.model)
        return {name: path for name, path in files.items() if path is not None}

    def describe(self) -> str:
        """``17 policies x 200 items``."""
        counts = [task.known_items() for task in self.tasks]
        known = sum(count for count in counts if count is not None)
        items = f"{known or '?'} items" if None not in counts else f"{known} items and more" if known else "? items"
        samples = f" x {self.samples} samples" if self.samples > 1 else ""
        return f"{len(self.policies)} policies x {items}{samples}"

    @property
    def model_folder(self) -> Path | None:
        """The model when it is a local folder."""
        return local_folder(self.model)
