"""What a sweep compares: policies, each a rule for when thinking stops and how it is made to go on.

A kind of policy is a subclass of :class:`Policy` in a module of its own (:mod:`jobs.evaluate.sweep.policies`). To all
others a policy is what stands here: names, the :class:`Root` of its tree, and its :class:`Route` through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from jobs.evaluate.sweep.steps import Steps

FINAL_ANSWER = "Final Answer:"
"""What is said after the close delimiter where thinking was cut, as in the s1 paper."""
CLOSE = "{close}"
"""Stands for the close delimiter in a closing."""


def around_close(closing: str) -> tuple[str, str]:
    """What a closing says before the close delimiter and after it: on a line of its own, unless it says where the
    delimiter goes."""
    if not closing:
        return "", ""
    before, here, after = closing.partition(CLOSE)
    return (before, after) if here else ("", f"\n{closing}")


TOKENS_PER_STEP = 100
"""What the paper takes a step of thinking for: with it, its step-conditional runs have the Control that it printed."""


@dataclass(frozen=True, order=True)
class Wish:
    """Conditional control: a sentence at the end of the question that says how long to think."""

    kind: Literal["token", "step", "class"]
    value: int | str
    """Tokens, steps, or a word."""

    @property
    def sentence(self) -> str:
        """As in the s1 paper: ``Think for up to 1024 tokens.``"""
        if self.kind == "class":
            return f"Think for a {self.value} time."
        return f"Think for up to {self.value} {self.kind}s."


@dataclass(frozen=True)
class Root:
    """What a tree grows from: how the question is put, and what thinking may not say.

    Policies of one root share what they decode; each root has a tree of its own.
    """

    sentence: str | None = None
    """At the end of the question."""
    effort: str | None = None
    """How hard the model is told to think: a chat server's request, or the chat template, says it in its own way."""
    banned: tuple[str, ...] = ()
    """Strings that may not be written in thinking."""
    steps: Steps | None = None
    """Where a search branches; None where nothing is searched."""

    @property
    def thinks(self) -> bool:
        """Whether thinking is told from the answer: at no effort, all that is written is the answer."""
        return self.effort != "none"


class Mark(NamedTuple):
    """A place in the trunk that shows as it is decoded."""

    kind: Literal["step", "stop", "rule"]
    """``step``: where the header of a step begins. ``stop``: where one of `strings` is complete. ``rule``: where a
    stopping rule, named by its `strings`, said that it was enough."""
    strings: tuple[str, ...] = ()
    number: int = 0
    """Of a step: the steps before it. Of a stop: how often one of its strings was complete before."""


@dataclass(frozen=True)
class Route:
    """What a policy does to thinking: its way through the decode tree."""

    budget: int | None = None
    """Most thinking tokens, injected ones included. None is ``auto``: whatever the context leaves."""
    strings: tuple[str, ...] = ()
    """What is appended at the first natural ends, one at each; thinking then goes on. An empty string appends nothing
    but still forbids the end."""
    closing: str | None = FINAL_ANSWER
    """What is appended where thinking is cut, to have it answered. None: nothing is forced, so only thinking that ends
    by itself is answered, and thinking of exactly the budget may still do so. Nothing is then extended."""
    mark: Mark | None = None
    """Where thinking is cut besides. Nothing is then extended."""

    @property
    def forced(self) -> bool:
        """Whether thinking that is cut is made to answer."""
        return self.closing is not None

    @property
    def cut(self) -> int | None:
        """The tokens at which decoding of thinking stops. Where only a natural end counts, it needs one more to be
        seen."""
        return self.budget if self.forced or self.budget is None else self.budget + 1


class Policy(ABC):
    """A rule for when thinking stops and how it goes on. Subclasses are frozen dataclasses, each of one kind."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Unique within a sweep and stable across runs: ``32``, ``auto``, ``2x"Wait" in 2048``, ``no forcing``."""

    @property
    @abstractmethod
    def method(self) -> str:
        """The curve that it is a point of: ``budget``, ``no forcing``. Those of one method differ in one thing."""

    @property
    @abstractmethod
    def setting(self) -> str:
        """What sets it apart from policies of its method: ``32``, ``auto``, ``short``."""

    @property
    def route(self) -> Route:
        """Its way through the decode tree."""
        return Route()

    @property
    def root(self) -> Root:
        """What its tree grows from."""
        return Root()

    @property
    def place(self) -> float:
        """Where on its curve it stands; of equals, the one that the experiment file has first is first."""
        return 0.0

    @property
    def origin(self) -> Policy | None:
        """The policy of another method with which its curve begins, where that is in the sweep."""
        return None

    @property
    def count(self) -> int:
        """How often thinking is extended at most."""
        return len(self.route.strings)

    @property
    def asked(self) -> int | None:
        """The tokens or steps that thinking should keep to; None where no number is given."""
        return None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The fewest and most tokens that thinking should have; None: what the model takes when nothing is asked."""
        return 0, inf if self.asked is None else self.asked

    @property
    def tries(self) -> int:
        """Of so many samples, the first whose thinking ends by itself within the budget is taken; 0: each is taken as
        it is. Such policies force nothing."""
        return 0

    @property
    def elects(self) -> bool:
        """Whether a sample of it is what many traces elect. Such samples are not taken together once more."""
        return False

    @property
    def leaves(self) -> tuple[Policy, ...]:
        """The policies that are decoded for it: itself, unless its rows are made of theirs; those in the order of their
        tokens."""
        return (self,)

    @property
    def replayed(self) -> bool:
        """Whether its rows are made of other policies'."""
        return self.leaves != (self,)

    @property
    def told(self) -> bool:
        """Whether it takes someone who knows the right answers: a bound, and nothing to choose."""
        return False

    @property
    def runs_of(self) -> int | None:
        """Samples of an item that make one row; None: all of them."""
        return 1

    def samples_looked_at(self, accepted: float) -> float:
        """How many samples it looks at in the mean where a share of `accepted` end by themselves within its budget:
        what a plan reckons with."""
        return 1.0


def walked(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """All that is decoded for `policies`, each once, in their order."""
    return tuple(dict.fromkeys(leaf for policy in policies for leaf in policy.leaves))


def ordered(budgets: Iterable[int | None]) -> tuple[int | None, ...]:
    """Each budget once, ascending; None (``auto``) last."""
    return tuple(sorted(set(budgets), key=lambda budget: (budget is None, budget or 0)))


def printable(name: str) -> str:
    """`name` on one line, other names on others: what cannot be printed, and a backslash, as Python writes it."""
    return "".join(letter if letter.isprintable() and letter != "\\" else repr(letter)[1:-1] for letter in name)
