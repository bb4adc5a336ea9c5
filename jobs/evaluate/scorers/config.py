"""The fields of ``search:`` in an experiment file: what searches branch at, and what scores their steps. Light."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from jobs.evaluate.engines.registry import AUTO, ENGINES, EngineName, chosen
from jobs.evaluate.scorers.registry import SCORERS, ScorerKind, ScorerName
from jobs.evaluate.sweep import kinds
from jobs.evaluate.sweep.kinds import KINDS
from jobs.evaluate.sweep.searching import StepRule
from jobs.evaluate.sweep.values import MAX_LENGTH
from orchestrator.job.errors import StepError
from orchestrator.job.references import ModelSource
from orchestrator.job.strict_model import StrictModel

if TYPE_CHECKING:  # which has these fields
    from jobs.evaluate.config import EvaluateConfig

OWN = ("model", "engine", "good", "bad", "tag", "window")
"""Fields that some scorers have and others not."""


class ScorerField(StrictModel):
    """What scores. All of it enters the sweep's identity; where it runs does not."""

    kind: ScorerName = Field(description="; ".join(f"{name}: {SCORERS[name].description}" for name in SCORERS.ours))
    model: ModelSource | None = Field(default=None, description="as the sweep's own model is named")
    engine: EngineName = Field(default=AUTO, description="auto: vllm on GPUs, else transformers")
    good: str | None = Field(default=None, min_length=1, description="what its model writes of good steps")
    bad: str | None = Field(default=None, min_length=1, description="what it writes of bad ones")
    tag: str | None = Field(default=None, min_length=1, description="what stands after each step, and is scored there")
    window: int | None = Field(
        default=None,
        ge=1,
        le=MAX_LENGTH,
        description="tokens of a prompt, without steps that are too early; None: its context",
    )

    @model_validator(mode="after")
    def _has_what_its_kind_takes(self) -> Self:
        takes = {*self.record.needs, *self.record.takes}
        for name in self.record.needs:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: scorer {self.kind} needs one: give it")
        for name in OWN:
            if name not in takes and name in self.model_fields_set:
                raise ValueError(f"{name}: scorer {self.kind} has none: leave it out")
        if self.good is not None and self.good == self.bad:
            raise ValueError(f"bad: {self.bad!r} is what stands for good, too: give what its model writes of bad steps")
        return self

    @property
    def record(self) -> ScorerKind:
        return SCORERS[self.kind]


class SearchField(StrictModel):
    """What all searches of a sweep have in common."""

    scorer: ScorerField
    steps: StepRule = StepRule()
    repeats: int = Field(default=1, ge=1, le=1024, description="searches of each item")

    @model_validator(mode="after")
    def _window_holds_a_step(self) -> Self:
        window = self.scorer.window
        if window is not None and window <= self.steps.tokens:
            raise ValueError(
                f"scorer.window: {window} tokens do not hold the question and a step of {self.steps.tokens}: raise it, "
                "or lower steps.tokens"
            )
        return self


def cannot_search(config: EvaluateConfig) -> str | None:
    """What of ``search:`` does not go with the rest, in a line; None where all does."""
    if config.search is None:
        return None
    if not any(KINDS[key].searches for key in kinds.given(config)):
        able = ", ".join(key for key in kinds.own_keys() if KINDS[key].searches)
        return f"search: nothing here searches: give one of {able}, or leave it out"
    scorer, resources = config.search.scorer, config.resources
    if resources.scorer.replicas and scorer.model is None:
        return f"resources.scorer.replicas: scorer {scorer.kind} has no model to place apart: leave it out"
    gpus = resources.scorer.gpus if config.scorers_apart else resources.gpus
    if scorer.record.likelihoods and not ENGINES[chosen(scorer.engine, gpus)].likelihoods:
        able = " or ".join(name for name in ENGINES if ENGINES[name].likelihoods)
        said = f"search.scorer.engine: {scorer.engine} does not say how likely tokens are, which is the score"
        return f"{said}: take {able}"
    if resources.scorer.gpus and not config.scorers_apart and not (resources.gpus and config.engine_name == "vllm"):
        return (
            "resources.scorer.gpus: in a replica of the model a scorer has cards of its own beside vllm on GPUs alone: "
            "set resources.gpus, place it apart with resources.scorer.replicas, or leave it out"
        )
    judged = [task.name for task in config.tasks if task.answer_type.undecided == "judge"]
    if scorer.kind == "exact" and judged:
        return (
            f"search.scorer: exact takes the verdict of rules, and task {judged[0]!r} is judged by a model: take "
            "another scorer, or leave the task out"
        )
    return None


def as_model(scorer: ScorerField, config: EvaluateConfig) -> EvaluateConfig:
    """The sweep as if the scorer's model were its own."""
    changes = {"model": scorer.model, "context_length": scorer.window or "auto", "dtype": "auto", "sampling": None}
    return config.model_copy(update=changes)


@contextmanager
def complaints() -> Iterator[None]:
    """What is refused of the scorer's model is said of its field."""
    try:
        yield
    except StepError as error:
        field, _, what = str(error).partition(": ")
        raise StepError(f"search.scorer.{'window' if field == 'context_length' else field}: {what}") from error
