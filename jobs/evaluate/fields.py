"""The values that an ``evaluate`` step is written in: lengths, lists of them, and what has keys of its own.

Lists of budgets, counts and limits mean sets: in what identifies a step they are in order, each once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.stats import votes
from jobs.evaluate.stats.sample_scores import SCORER, SCORES
from jobs.evaluate.stats.votes import VOTES
from jobs.evaluate.sweep import kinds
from jobs.evaluate.sweep.values import ascending, filled, is_length, once
from jobs.template import TEMPLATES, UNMARKED, ThinkingTemplate
from orchestrator.job.extensions import known
from orchestrator.job.strict_model import StrictModel

if TYPE_CHECKING:  # which has these fields
    from jobs.evaluate.config import EvaluateConfig


def _drawn(value: Any) -> Any:
    if is_length(value):
        return value
    raise ValueError(f"{value!r} is not a number of samples: give whole numbers from 1")


Ks = Annotated[
    tuple[Annotated[int, BeforeValidator(_drawn)], ...],
    AfterValidator(filled),
    PlainSerializer(ascending),
]


VoteKinds = Annotated[
    tuple[Annotated[str, known(VOTES)], ...],
    AfterValidator(filled),
    PlainSerializer(once),
]
"""Each once, in the order of tables."""
ScoreNames = Annotated[tuple[Annotated[str, known(SCORES)], ...], PlainSerializer(once)]


def cannot_vote(config: EvaluateConfig) -> str | None:
    """What of ``samples``, ``at_k``, ``votes`` and ``scores`` does not go together, in a line; None where all does."""
    if config.at_k is not None and max(config.at_k) > config.samples:
        return (
            f"at_k: {max(config.at_k)} is more than the {config.samples} samples that each item has: raise samples, "
            "or lower it"
        )
    if problem := votes.contradiction(config.votes, config.scores, config.samples):
        return problem
    if SCORER in config.scores and getattr(config, "scored", None) is None:
        return (
            f"scores: {SCORER} is what the sweep's scorer says of whole traces: give search and scored, or leave it out"
        )
    return None


def taken_as_sets(config: EvaluateConfig) -> Iterator[str]:
    """The lists of a config that were written in another way than they are understood, each in a line."""
    keys = [*kinds.given(config), *(["at_k"] if config.at_k is not None else [])]
    dumped = config.model_dump(mode="json", include=set(keys))
    for key in keys:
        for name, written, understood in _as_sets(key, getattr(config, key), dumped[key]):
            if written != understood:
                yield f"{name}: {written} taken as {understood}"


def _as_sets(name: str, value: object, understood: Any) -> Iterator[tuple[str, list[object], list[object]]]:
    """The lists in a field's value, each with what it was understood as."""
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _as_sets(f"{name}.{field}", getattr(value, field), understood[field])
    elif isinstance(value, tuple) and not any(isinstance(each, BaseModel) for each in value):
        yield name, list(value), understood


class Template(StrictModel):
    """How the model marks its thinking: a style by name, or delimiters of its own.

    Three spellings: ``think``, ``auto`` (what tokenizer and chat template show), ``{open: "<reason>", close:
    "</reason>"}``, with ``plain: true`` where those are no tokens of the vocabulary. A model
    trained to write a header before each step has it as `step`: ``{name: think, step: "<step>"}``. ``none``: the model
    marks no thinking.
    """

    name: str | None = None
    open: str | None = Field(default=None, min_length=1)
    close: str | None = Field(default=None, min_length=1)
    step: str | None = Field(default=None, min_length=1)
    plain: bool = Field(default=False, description="open and close are ordinary text, and no tokens of the vocabulary")

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
        elif self.plain:
            raise ValueError(f"plain: {self.name!r} says itself what it is: give it with open and close alone")
        elif self.name not in ("auto", UNMARKED.name) and self.name not in TEMPLATES:
            known = ("auto", *sorted((UNMARKED.name, *TEMPLATES)))
            raise ValueError(f"unknown template {self.name!r}: known are {', '.join(known)}")
        elif self.name in ("auto", UNMARKED.name) and self.step is not None:
            raise ValueError(f"{self.name} cannot have a step: give it with a style's name, or with open and close")
        if self.style is not None and (contradiction := self.style.contradiction()):
            raise ValueError(f"{contradiction}: give others")
        return self

    def __str__(self) -> str:
        named = self.name or f"{self.open} … {self.close}"
        return named if self.step is None else f"{named}, steps {self.step}"

    @property
    def style(self) -> ThinkingTemplate | None:
        """What it stands for; None for ``auto``, which only the tokenizer can say."""
        if self.open is not None and self.close is not None:
            return ThinkingTemplate(str(self), self.open, self.close, step=self.step, plain=self.plain)
        if self.name == UNMARKED.name:
            return UNMARKED
        named = TEMPLATES.get(self.name or "")
        return named and replace(named, step=self.step)
