"""``conditional: {tokens: [1024], steps: [16], classes: [short]}``: the question asks for so much thinking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.sweep.kinds import UNTOLD, PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policy import TOKENS_PER_STEP, Mark, Policy, Root, Route, Wish
from jobs.evaluate.sweep.values import Limits, filled
from jobs.template import UNMARKED
from orchestrator.job.strict_model import StrictModel

FORCED = " + budget forcing"


def _in_order(classes: Iterable[str]) -> list[str]:
    """Short, long."""
    return sorted(set(classes), reverse=True)


Words = Annotated[tuple[Literal["short", "long"], ...], AfterValidator(filled), PlainSerializer(_in_order)]


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
        yield from (Wish("class", word) for word in _in_order(self.classes or ()))


@dataclass(frozen=True)
class Asking(Policy):
    """The question says how long to think; where that is forced, thinking is cut there and made to answer.

    The tokens that it names are then the budget, and the steps too where the model writes headers; else the context is.
    """

    wish: Wish
    forced: bool = False
    headers: bool = False

    @property
    def name(self) -> str:
        asked = f"{self.wish.kind}-conditional {self.wish.value}"
        return asked + FORCED * self.forced

    @property
    def method(self) -> str:
        return f"{self.wish.kind}-conditional" + FORCED * self.forced

    @property
    def setting(self) -> str:
        return str(self.wish.value)

    @property
    def root(self) -> Root:
        return Root(sentence=self.wish.sentence)

    @property
    def route(self) -> Route:
        if not self.forced:
            return Route(closing=None)
        if self.wish.kind == "step" and self.headers and self.asked is not None:
            return Route(mark=Mark("step", number=self.asked))
        return Route(self.asked if self.wish.kind == "token" else None)

    @property
    def asked(self) -> int | None:
        return self.wish.value if isinstance(self.wish.value, int) else None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        if self.asked is None:
            return (0, None) if self.wish.value == "short" else (None, inf)
        return 0, self.asked * (TOKENS_PER_STEP if self.wish.kind == "step" else 1)


def conditional(wishes: Iterable[Wish], budget_forcing: bool, headers: bool = False) -> tuple[Asking, ...]:
    """Each wish by itself, then, with `budget_forcing`, each enforced; the model may write `headers`."""
    wishes = tuple(dict.fromkeys(wishes))
    alone = tuple(Asking(wish) for wish in wishes)
    return alone + tuple(Asking(wish, True, headers) for wish in wishes if budget_forcing)


def policies(given: Conditional, sweep: SweepFields, before: Sequence[Policy]) -> Sequence[Policy]:
    headers = sweep.style is not None and sweep.style.step is not None
    return conditional(given.wishes, given.budget_forcing, headers)


def count(given: Conditional, before: int, sweep: SweepFields) -> int:
    return len(set(given.wishes)) * (1 + given.budget_forcing)


def check(given: Conditional, sweep: SweepFields) -> None:
    if given.budget_forcing and sweep.style == UNMARKED:
        raise ValueError(f"conditional.budget_forcing: {UNTOLD}")


def chats(given: Conditional, sweep: SweepFields) -> Iterator[Refusal]:
    if given.budget_forcing:
        what = "needs thinking that can be cut, and a server that only chats shows none: leave it out"
        yield ("budget_forcing",), what


KIND = PolicyKind(
    value=Conditional,
    policies=policies,
    description="a sentence in the question asks for so much thinking",
    order=60,
    count=count,
    curves=tuple(f"{what}-conditional{end}" for what in ("token", "step", "class") for end in ("", FORCED)),
    cuts=False,
    check=check,
    chats=chats,
)
