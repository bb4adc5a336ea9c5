"""The fields of an ``evaluate`` step: a model, tasks, and the grid of policies to compare on them.

Light: every experiment file is checked against it before torch, ray or an engine is imported.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from sys import modules
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from jobs.evaluate.adapter import AdaptedModel, SweepModel
from jobs.evaluate.chat.config import Chat, cannot
from jobs.evaluate.drawing import contradiction, unrecommended
from jobs.evaluate.engines.registry import AUTO, ENGINES, EngineKind, EngineName, chosen
from jobs.evaluate.fields import Ks, ScoreNames, Template, VoteKinds, cannot_vote, taken_as_sets
from jobs.evaluate.grading.config import Judge, cannot_judge
from jobs.evaluate.placement import cannot_be_asked, misplaced
from jobs.evaluate.published import Published
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.scorers.config import SearchField, cannot_search
from jobs.evaluate.stats.votes import USUAL
from jobs.evaluate.sweep import kinds
from jobs.evaluate.sweep.chat_template import DATE, OURS, Instructions, unknown_switches
from jobs.evaluate.sweep.curves import methods
from jobs.evaluate.sweep.kinds import KINDS
from jobs.evaluate.sweep.policy import Policy, Root
from jobs.evaluate.sweep.values import MAX_LENGTH, Length, filled
from jobs.evaluate.tasks.config import TaskConfig
from jobs.model_folder import chat_template, folder_problems, local_folder
from jobs.template import UNMARKED, ThinkingTemplate
from orchestrator.job.config import HubName, Problem, StepConfig
from orchestrator.job.local_files import LocalPath
from orchestrator.job.outputs import Curves, Output
from orchestrator.job.references import Reference

MOST_SAMPLES = 1024
"""Of an item. The ways to take half of them, 4.5e306, are still a float: majority@k counts them."""

MOST_POLICIES = 1000
"""Of one sweep: the points of its tables and plots."""

BATCH_INVARIANT_COSTS = (
    "batch_invariant: slower: attention in one split, matrix products without split-K and TF32, no fused all-reduce, "
    "and NCCL on one channel"
)

_VOTES = re.compile(r"auto [a-z]+@[0-9]+( by .+)?")
"""What tables call several samples of the natural end."""


if TYPE_CHECKING:
    _Policies = StepConfig
else:
    _Policies = kinds.with_fields(StepConfig, kinds.own_keys(), "Policies")


class EvaluateConfig(_Policies):
    """One sweep: every policy of the grid, on every item of the tasks."""

    VERSION: ClassVar[int] = 3
    PRODUCES: ClassVar[type[Output]] = Curves
    RENAMED: ClassVar[Mapping[str, str]] = {"together": "at_k"}

    model: SweepModel | None = Field(
        default=None,
        description="${step}, a folder in Hugging Face's layout, a model's name on its hub, or {base, adapter}",
    )
    tasks: Annotated[tuple[TaskConfig, ...], AfterValidator(filled)]
    template: Template = Field(default=Template(name="think"), description="a style's name, auto, or {open, close}")
    system: str | None = Field(default=None, min_length=1, description="what the model is told before every question")
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default={}, description="switches of the model's chat template: {enable_thinking: true}"
    )
    date: datetime.date = Field(default=DATE, description="the day that a chat template writes which writes the date")
    samples: int = Field(default=1, ge=1, le=MOST_SAMPLES, description="traces per item")
    at_k: Ks | None = Field(default=None, description="the k of votes; None: 1, 2, 4, 8 …")
    votes: VoteKinds = Field(default=USUAL, description="what is made of k samples: pass, majority, weighted, best")
    scores: ScoreNames = Field(default=(), description="by what weighted and best go: exact, length")
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="0: greedy")
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=MAX_LENGTH, description="the likeliest tokens that are drawn from; 0: all")
    min_p: float = Field(default=0.0, ge=0, le=1, description="of the likeliest token's probability, at least")
    presence_penalty: float = Field(default=0.0, ge=-2, le=2, description="of tokens that the trace has")
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, description="as often as the trace has them")
    repetition_penalty: float = Field(default=1.0, gt=0, le=10, description="of tokens of the prompt and the trace")
    sampling: Literal["recommended"] | None = Field(default=None, description="as the checkpoint's own config has it")
    seed: int = Field(default=0, ge=0, le=MAX_LENGTH)
    max_answer_tokens: Length = Field(default="auto", description="auto: an eighth of the context")
    context_length: Length = Field(default="auto", description="auto: what the model was made for, and 32768 at most")
    engine: EngineName = Field(default=AUTO, description="auto: vllm on GPUs, else transformers")
    served_model: str | None = Field(default=None, min_length=1, description="on a server: its name for the model")
    chat: Chat | None = Field(default=None, description="the server only chats; {} or what it is told")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto: the model's own")
    batch_invariant: bool = Field(
        default=False, description="the same tokens whatever shares a batch, with slower kernels; vllm on GPUs"
    )
    confidence: bool = Field(default=False, description="also how sure the model was, of each token and answer")
    published: Published | None = Field(default=None, description="values of others, to lay beside the results")
    judge: Judge | None = Field(default=None, description="who compares the answers of tasks of type judged")
    search: SearchField | None = Field(default=None, description="what searches branch at, and what scores their steps")
    resources: EvaluateResources = EvaluateResources()

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Self:
        if self.samples > 1 and self.greedy:
            raise ValueError(f"samples: {self.samples} needs a temperature above 0: greedy samples are all the same")
        if problem := contradiction(self):
            raise ValueError(problem)
        if problem := cannot_be_asked(self) or cannot_vote(self):
            raise ValueError(problem)
        for key in OURS & self.chat_template_kwargs.keys():
            raise ValueError(f"chat_template_kwargs.{key}: is set by the sweep: leave it out")
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tasks: {name!r} is given twice: give each task a name of its own")
        return self

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        """Counted before any policy is made: three lists of a thousand are a billion."""
        policies = 0
        for key, given in kinds.given(self).items():
            kind = KINDS[key]
            if kind.cuts and self.template.style == UNMARKED and given != kind.default:
                raise ValueError(f"{key}: {kinds.UNTOLD}")
            kind.check(given, self)
            policies += kind.count(given, policies, self)
        if policies > MOST_POLICIES:
            raise ValueError(
                f"compares {policies:,} policies: give at most {MOST_POLICIES:,}, and others in a step of their own, "
                "which shares its traces"
            )
        return self

    @model_validator(mode="after")
    def _searches_with_what_it_has(self) -> Self:
        if problem := cannot_search(self):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _has_a_judge_where_one_is_needed(self) -> Self:
        if problem := cannot_judge(self):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if problem := misplaced(self):
            raise ValueError(problem)
        return self

    @classmethod
    def reading(cls, keys: Iterable[str]) -> type[Self]:
        """With the kinds of policy of installed packages that are among `keys`."""
        others = [key for key in keys if key not in cls.model_fields and key in KINDS]
        return kinds.with_fields(cls, others, cls.__name__) if others else cls

    def __reduce__(self) -> tuple[Any, ...]:
        """A class with fields of other packages has no name to be found by."""
        named = next(
            each for each in type(self).__mro__ if getattr(modules[each.__module__], each.__name__, None) is each
        )
        others = [key for key in type(self).model_fields if key not in named.model_fields]
        return _restored, (named, others, self.__getstate__())

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """What is compared, in the order of tables."""
        return kinds.spelled_out(self)

    @property
    def scorer_is_told(self) -> bool:
        """Whether what scores knows the right answers: a bound for all that do not."""
        return self.search is not None and self.search.scorer.kind == "exact"

    @property
    def loads_scorer(self) -> bool:
        """Whether each replica has a model that scores, besides the one that decodes."""
        return self.search is not None and self.search.scorer.model is not None

    def samples_of(self, root: Root) -> int:
        """Of an item: traces, or searches."""
        return self.samples if root.steps is None or self.search is None else self.search.repeats

    @property
    def greedy(self) -> bool:
        """Whether all samples of an item would be the same. How a server that chats samples is said nowhere, and what
        a checkpoint recommends is known once it is there."""
        return self.temperature == 0 and self.chat is None and self.sampling is None

    @property
    def online(self) -> bool:
        """Whether a stopping rule runs while it decodes."""
        return any(each.online for each in kinds.given(self).get("stopping", ()))

    @property
    def style(self) -> ThinkingTemplate | None:
        """How the model marks its thinking; None where only its tokenizer tells."""
        return self.template.style

    @property
    def instructions(self) -> Instructions:
        """What every prompt says beside its question."""
        return Instructions(self.system, self.chat_template_kwargs, self.date)

    @property
    def engine_name(self) -> str:
        """The engine that decodes."""
        return chosen(self.engine, self.resources.gpus)

    @property
    def engine_kind(self) -> EngineKind:
        """What it can do."""
        return ENGINES[self.engine_name]

    def replica_demand(self) -> dict[str, float]:
        """The one placement-group bundle of a replica."""
        demand = {"CPU": float(self.resources.cpus)}
        within = self.loads_scorer and not self.scorers_apart
        gpus = self.resources.gpus + (self.resources.scorer.gpus if within else 0)
        return demand | {"GPU": float(gpus)} if gpus else demand

    @property
    def scorers_apart(self) -> int:
        """Replicas of the scorer, besides the model's; 0 where it runs in those."""
        return self.resources.scorer.replicas if self.loads_scorer else 0

    def scorer_demand(self) -> dict[str, float]:
        """The one placement-group bundle of a scorer apart."""
        scorer = self.resources.scorer
        return {"CPU": float(scorer.cpus)} | ({"GPU": float(scorer.gpus)} if scorer.gpus else {})

    def demands(self) -> list[dict[str, float]]:
        """What the sweep needs at least; of replicas it takes up to ``replicas.max`` when they are free."""
        if self.chat is not None:
            return []  # its controller asks the server itself
        scorers = [self.scorer_demand()] * self.scorers_apart
        return [*scorers, *[self.replica_demand()] * self.resources.replicas.min]

    def bundles(self) -> list[dict[str, float]]:
        """A replica's, and the judge's, which comes when they have gone."""
        if self.judge is None or self.judge.served:
            return self.demands()
        judge = self.resources.judge
        return [*self.demands(), {"CPU": float(judge.cpus), "GPU": float(judge.gpus)}]

    def holds(self) -> float:
        """Its replicas come and go, and it says how many there are."""
        return 0.0

    def holds_at_most(self) -> float:
        """All the replicas that can run at once."""
        if self.chat is not None:
            return 0.0
        each = self.devices(self.replica_demand())
        scorers = self.devices(self.scorer_demand()) * self.scorers_apart
        return scorers + each * self.machine.at_once(max(1, int(each)), self.resources.replicas.max)

    def charged(self) -> bool:
        """Where the server that chats has a price."""
        server = self.resources.server
        return self.chat is not None and server is not None and server.price is not None

    def unlimited(self) -> Iterator[Problem]:
        """A request without a limit may cost anything."""
        if self.chat is not None and self.charged() and self.chat.most(None) is None:
            yield Problem(
                ("chat", "parameters"),
                "max_cost counts what is under way at its most, and nothing says how long an answer may be: give "
                "{max_tokens: 32768}, or leave out resources.server.price",
            )

    def notes(self) -> list[str]:
        """Lists that were understood as sets, and what costs more than it looks."""
        notes = list(taken_as_sets(self))
        if "strftime_now" in chat_template(self.base):
            notes.append(
                f"date: the model's chat template writes the day: prompts say {self.date}, whatever the day is"
            )
        if self.published is not None:
            points = {policy.name for policy in self.policies} | {each.name for each in methods(self.policies)}
            tasks = {task.name for task in self.tasks}
            for task, name in self.published.names():
                if task not in tasks or (name not in points and not _VOTES.fullmatch(name)):
                    notes.append(f"published: {name} on {task} is not in this sweep, so nothing is laid beside it")
        return notes + [BATCH_INVARIANT_COSTS] * self.batch_invariant

    def grades_on_cluster(self) -> bool:
        """A judge is a model."""
        return self.judge is not None

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """Files that are not there, or not what they should be, seen before anything heavy is loaded."""
        for index, task in enumerate(self.tasks):
            yield from task.problems(("tasks", index), contents)
        if self.chat is None:
            within = ("model", "base") if self.adapted else ("model",)
            for problem in folder_problems(self.base):
                yield replace(problem, field=within)
            if self.adapted:
                yield from self.adapted.problems()
            for name, message in unknown_switches(chat_template(self.base), self.chat_template_kwargs):
                yield Problem(("chat_template_kwargs", name), message)
        yield from unrecommended(self)
        yield from cannot(self)
        if self.judge is not None:
            for problem in folder_problems(self.judge.model):
                yield replace(problem, field=("judge", *problem.field))
        if self.search is not None:
            for problem in folder_problems(self.search.scorer.model):
                yield replace(problem, field=("search", "scorer", *problem.field))

    def hub_names(self) -> Iterator[HubName]:
        """The model, the judge and the user's datasets. Benchmarks are there."""
        for index, task in enumerate(self.tasks):
            if task.dataset is not None:
                yield HubName(("tasks", index, "dataset"), "dataset", task.dataset, task.revision)
        if isinstance(self.base, str):
            yield HubName(("model", "base") if self.adapted else ("model",), "model", self.base)
        if self.adapted and isinstance(self.adapted.adapter, str):
            yield HubName(("model", "adapter"), "model", self.adapted.adapter)
        if self.judge is not None and isinstance(self.judge.model, str):
            yield HubName(("judge", "model"), "model", self.judge.model)
        if self.search is not None and isinstance(self.search.scorer.model, str):
            yield HubName(("search", "scorer", "model"), "model", self.search.scorer.model)

    def hub_problems(self) -> Iterator[Problem]:
        """Rows of datasets that are no questions."""
        for index, task in enumerate(self.tasks):
            yield from task.hub_problems(("tasks", index))

    def external_inputs(self) -> Mapping[str, Path]:
        """The user's own task files and model folders."""
        files = {f"tasks.{index}.path": task.file for index, task in enumerate(self.tasks)}
        files["model.base" if self.adapted else "model"] = self.model_folder
        files["model.adapter"] = local_folder(self.adapted.adapter) if self.adapted else None
        files["judge.model"] = None if self.judge is None else local_folder(self.judge.model)
        files["search.scorer.model"] = None if self.search is None else local_folder(self.search.scorer.model)
        return {name: path for name, path in files.items() if path is not None}

    def describe(self) -> str:
        """``17 policies x 200 items``, or ``x the items of ${letters}`` where only that step knows how many."""
        counts = {task: task.known_items() for task in self.tasks}
        known = sum(count for count in counts.values() if count is not None)
        others = ", ".join(
            f"the items of {task.path or task.dataset}" for task, count in counts.items() if count is None
        )
        items = " and ".join([f"{known} items"] * (known > 0) + [others] * (others != ""))
        samples = f" x {self.samples} samples" if self.samples > 1 else ""
        count = len(self.policies)
        return f"{count} {'policy' if count == 1 else 'policies'} x {items}{samples}"

    @property
    def base(self) -> Reference | LocalPath | str | None:
        """The model itself, whatever is laid on it; None where a server that chats has it."""
        return self.model.base if isinstance(self.model, AdaptedModel) else self.model

    @property
    def adapted(self) -> AdaptedModel | None:
        """The model, where it is one with an adapter."""
        return self.model if isinstance(self.model, AdaptedModel) else None

    @property
    def model_name(self) -> str:
        """As it is called: the step that made it, the folder's last name, or the name on its hub or server; with its
        adapter's."""
        if self.base is None:
            return str(self.served_model)
        base = self.base.step if isinstance(self.base, Reference) else _last_name(self.base)
        return f"{base} with {_last_name(self.adapted.adapter)}" if self.adapted else base

    @property
    def model_folder(self) -> Path | None:
        """The model when it is a local folder."""
        return local_folder(self.base)


def _last_name(source: LocalPath | str) -> str:
    return source.path.name if isinstance(source, LocalPath) else source


def _restored(named: type[EvaluateConfig], others: Sequence[str], state: dict[str, Any]) -> EvaluateConfig:
    """The config that was pickled."""
    config = object.__new__(named.reading(others))
    config.__setstate__(state)
    return config
