"""The values that an ``evaluate`` step is written in: lengths, lists of them, and what has keys of its own.

Lists of budgets, counts and limits mean sets: in what identifies a step they are in order, each once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.chat.config import EFFORTS, Effort
from jobs.evaluate.sweep.policies import Wish, ordered
from jobs.template import TEMPLATES, UNMARKED, ThinkingTemplate
from orchestrator.job.strict_model import StrictModel

MAX_LENGTH = 2**31 - 1
"""Tokens. No budget or count beyond it can mean anything, and no engine counts further."""

MOST_EXTENSIONS = 256
"""Of one trace. The paper has six; each is a branch of the sweep's tree below the one before."""

MOST_VALUES = 1000
"""Of one list."""

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
    if _is_length(value) and value <= MOST_EXTENSIONS:
        return value
    raise ValueError(
        f"{value!r} is no count of extensions: give whole numbers from 1 to {MOST_EXTENSIONS} (0 is what budgets "
        "already do)"
    )


def _drawn(value: Any) -> Any:
    if _is_length(value):
        return value
    raise ValueError(f"{value!r} is no number of samples: give whole numbers from 1")


def filled(values: Items) -> Items:
    if not values:
        raise ValueError("the list is empty: give at least one")
    if len(values) > MOST_VALUES:
        raise ValueError(f"the list has {len(values):,} values: give at most {MOST_VALUES:,}")
    return values


def policy_budgets(budgets: Sequence[int | str]) -> tuple[int | None, ...]:
    """Budgets as policies count them: ascending, each once, None for ``auto``."""
    return ordered(None if isinstance(budget, str) else budget for budget in budgets)


def canonical_budgets(budgets: Sequence[int | str]) -> list[int | str]:
    """Budgets mean the same in any order, so what identifies a step has them in one."""
    return ["auto" if budget is None else budget for budget in policy_budgets(budgets)]


def ordered_words(classes: Iterable[str]) -> list[str]:
    """Classes in their order: short, long."""
    return sorted(set(classes), reverse=True)


def ordered_efforts(efforts: Iterable[Effort]) -> list[Effort]:
    """Each once, ascending."""
    return sorted(set(efforts), key=EFFORTS.index)


Length = Annotated[int | Literal["auto"], BeforeValidator(_length)]
Budgets = Annotated[tuple[Length, ...], AfterValidator(filled), PlainSerializer(canonical_budgets)]
Count = Annotated[int, BeforeValidator(_count)]
Counts = Annotated[tuple[Count, ...], AfterValidator(filled), PlainSerializer(lambda counts: sorted(set(counts)))]
Limit = Annotated[int, BeforeValidator(_limit)]
Limits = Annotated[tuple[Limit, ...], AfterValidator(filled), PlainSerializer(lambda limits: sorted(set(limits)))]
Ks = Annotated[
    tuple[Annotated[int, BeforeValidator(_drawn)], ...],
    AfterValidator(filled),
    PlainSerializer(lambda counts: sorted(set(counts))),
]
Words = Annotated[tuple[Literal["short", "long"], ...], AfterValidator(filled), PlainSerializer(ordered_words)]
Efforts = Annotated[tuple[Effort, ...], AfterValidator(filled), PlainSerializer(ordered_efforts)]


class Extensions(StrictModel):
    """Strings that replace the model's own end of thinking, each tried at each count."""

    strings: Annotated[tuple[str, ...], AfterValidator(filled)] = Field(description='"" only forbids the end')
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
        yield from (Wish("class", word) for word in ordered_words(self.classes or ()))


class Rejection(StrictModel):
    """Sampling again until thinking ends by itself within a limit. The samples of each item are what is drawn from."""

    limits: Limits = Field(description="tokens of thinking, at most")
    max_tries: int = Field(ge=1, description="samples looked at before there is no answer; at most `samples`")


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
