"""The fields of a ``curate`` step: which rows, which rules, and how many are taken. Light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from jobs.curate.classes import Classify
from jobs.curate.quality import quality
from jobs.curate.resources import CurateResources
from jobs.curate.selection import SELECTIONS
from jobs.model_folder import folder_problems, local_folder
from orchestrator.job.config import HubName, Problem, StepConfig
from orchestrator.job.local_files import LocalPath, file_problem
from orchestrator.job.outputs import Dataset, Output
from orchestrator.job.references import CurvesSource, DatasetSource, ModelSource
from orchestrator.job.strict_model import StrictModel


def _rule(value: Any) -> Any:
    quality(value)
    return value


Share = Annotated[float, Field(ge=0, le=1)]


class Accuracy(StrictModel):
    """How often another step's model is right."""

    of: CurvesSource
    between: tuple[Share, Share] = Field(description="both included, over the samples that could be graded")
    policy: str = Field(default="auto", description="of that sweep, as its tables name it")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.between[0] > self.between[1]:
            raise ValueError(f"between: {list(self.between)} is not a range: give the lower one first")
        return self


class Difficulty(StrictModel):
    """What other steps' results on the same questions say. A question that a sweep has not is dropped, and says so."""

    wrong_in: tuple[CurvesSource, ...] = Field(default=(), description="sweeps in all of which every sample is wrong")
    policy: str = Field(default="auto", description="of these sweeps, as their tables name it")
    accuracy: Accuracy | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.wrong_in and self.accuracy is None:
            raise ValueError("nothing is asked for: give wrong_in or accuracy")
        return self


class Domains(StrictModel):
    """What a domain is: a column's value, a cluster of questions that are about the same, or what a model says."""

    column: str | None = Field(default=None, min_length=1)
    clusters: int | None = Field(default=None, ge=2, le=1000)
    classify: Classify | None = None
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the clusters")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    def __str__(self) -> str:
        if self.classify is not None:
            return f"{self.classify.model}, which chose from {len(self.classify.classes)} classes"
        return self.column or f"{self.clusters} clusters of questions"

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(each is not None for each in (self.column, self.clusters, self.classify)) != 1:
            raise ValueError("give one of column, clusters and classify")
        return self


class Preselect(StrictModel):
    """Rows that ``s1`` takes before it draws."""

    source: str = Field(min_length=1, description="what the name of the rows' source has in it")
    longer_than: int = Field(default=0, ge=0)


class Select(StrictModel):
    """How many, and by what."""

    by: str = "full"
    size: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        default=(), max_length=100, description="several sets: train.jsonl is the first, seed-N.jsonl each"
    )
    preselect: tuple[Preselect, ...] = Field(default=(), description="by: s1")
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="by: s1: of domains, after the first 70%"
    )

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Self:
        if self.by not in SELECTIONS:
            raise ValueError(f"by: {self.by!r} is not a selection: known are {', '.join(SELECTIONS)}")
        sized = SELECTIONS[self.by].sized
        if sized and self.size is None:
            raise ValueError(f"size: {self.by} takes one: give it")
        if not sized and self.size is not None:
            raise ValueError(f"size: {self.by} takes all that is left: leave it out, or give by: random")
        if self.seeds and self.seed is not None:
            raise ValueError("both seed and seeds are given: give one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: the same seed is given twice: give each once")
        if self.by != "s1" and (self.preselect or self.weights):
            raise ValueError(f"preselect and weights are for by: s1, and this is {self.by}: leave them out")
        return self

    @property
    def drawn(self) -> tuple[int, ...]:
        """The seeds of the sets, the first of which is ``train.jsonl``."""
        return self.seeds or (self.seed or 0,)


class CurateConfig(StepConfig):
    """A training set."""

    VERSION: ClassVar[int] = 1
    PRODUCES: ClassVar[type[Output]] = Dataset

    data: DatasetSource = Field(description="${step}, or a JSONL file with question, trace and answer in each row")
    quality: tuple[Annotated[JsonValue, BeforeValidator(_rule)], ...] = Field(
        default=("finished",), description="rules: names, or {name: value}"
    )
    difficulty: Difficulty | None = None
    tokenizer: ModelSource | None = Field(
        default=None, description="counts traces in the student's tokens; None: as the rows say, else words"
    )
    domains: Domains | None = Field(default=None, description="a column's name, or {clusters: 20}")
    select: Select = Select()
    resources: CurateResources = CurateResources()

    @model_validator(mode="after")
    def _has_domains_where_they_are_drawn(self) -> Self:
        if SELECTIONS[self.select.by].by_domain and self.domains is None:
            raise ValueError(
                f"domains: {self.select.by} draws by domain: give {{column: …}}, {{clusters: …}} or {{classify: …}}"
            )
        return self

    @property
    def file(self) -> Path | None:
        """The user's own file."""
        return self.data.path if isinstance(self.data, LocalPath) else None

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """What is wrong with the user's own file, and with models' folders."""
        from jobs.curate.reading import row_problem

        classify = None if self.domains is None else self.domains.classify
        models = {("tokenizer",): self.tokenizer, ("domains", "classify", "model"): classify and classify.model}
        for field, model in models.items():
            yield from (replace(problem, field=field) for problem in folder_problems(model))
        if self.file is None:
            return
        problem = file_problem(self.file) or (row_problem(self.file, str(self.data)) if contents else None)
        if problem:
            yield Problem(("data",), f"{problem}: give a JSONL file with question, trace and answer, or ${{step}}")

    def hub_names(self) -> Iterator[HubName]:
        """The tokenizer's model, and the one that classifies."""
        if isinstance(self.tokenizer, str):
            yield HubName(("tokenizer",), "model", self.tokenizer)
        classify = None if self.domains is None else self.domains.classify
        if classify is not None and isinstance(classify.model, str):
            yield HubName(("domains", "classify", "model"), "model", classify.model, classify.revision)

    def demands(self) -> list[dict[str, float]]:
        """The model's, where one classifies."""
        if self.domains is None or self.domains.classify is None:
            return [{"CPU": 1.0}]
        gpus = {"GPU": float(self.resources.gpus)} if self.resources.gpus else {}
        return [{"CPU": float(self.resources.cpus), **gpus}]

    def external_inputs(self) -> Mapping[str, Path]:
        """The user's own file, and models' folders."""
        classify = None if self.domains is None else self.domains.classify
        given = {
            "data": self.file,
            "tokenizer": local_folder(self.tokenizer),
            "domains.classify.model": local_folder(classify and classify.model),
        }
        return {name: path for name, path in given.items() if path is not None}

    def describe(self) -> str:
        """``1000 by s1, 3 seeds``."""
        size = "all" if self.select.size is None else f"{self.select.size:,} by {self.select.by}"
        return size + (f", {len(self.select.drawn)} seeds" if len(self.select.drawn) > 1 else "")
