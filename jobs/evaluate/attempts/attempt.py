"""One attempt: a question, what was done to its thinking, and what came of it.

An attempt is one policy on one unit. It may leave another one's thinking at any token: it then begins with a copy of
what came before, so whatever is said of it was decoded on its own prefix, and nothing is decoded twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

from jobs.evaluate.engines.protocol import Belief, Sampling
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy, Route
from jobs.evaluate.sweep.prompts import Forcing, Prompter, Unit
from jobs.evaluate.sweep.tree import BranchPath, Key, Leaf
from jobs.evaluate.traces.segments import Trace

How = Literal["asked", "appended", "cut", "again"]
StretchKind = Literal["thinking", "stop", "appended", "cut", "answer"]


class Stretch(NamedTuple):
    """A stretch of what there is to read, in order."""

    kind: StretchKind
    """``stop``: where the model ended its thinking; ``cut``: where it was cut, with what was said to it then."""
    text: str
    at: int
    """Thinking tokens before it."""


class Appended(NamedTuple):
    """A string that was appended to thinking."""

    text: str
    at: int
    """Thinking tokens before it."""
    natural: bool
    """Whether thinking had ended there by itself, which is where a sweep appends; else it was in the middle."""


@dataclass(frozen=True)
class Steered(Policy):
    """Strings at ends of thinking, within a budget."""

    budget: int | None = None
    strings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As a sweep would call it, where a sweep can have it."""
        runs = [(string, len(list(run))) for string, run in groupby(self.strings)]
        if not runs:
            return Budget(self.budget).name
        strings = " ".join(f'{times}x"{string}"' for string, times in runs)
        return strings if self.budget is None else f"{strings} in {self.budget}"

    @property
    def method(self) -> str:
        return "steered"

    @property
    def setting(self) -> str:
        return self.name

    @property
    def route(self) -> Route:
        return Route(self.budget, self.strings)


@dataclass(frozen=True)
class Settings:
    """What holds for an attempt beside its question."""

    sampling: Sampling
    budget: int | None = None
    effort: str | None = None
    seed: int = 0


class HeardTrace(Trace):
    """A trace that tells what is added to it, as text."""

    def __init__(self, unit: Unit, forcing: Forcing, prompter: Prompter):
        super().__init__(unit, forcing)
        self._injected = forcing.injected
        self.hear: Callable[[Stretch], None] | None = None
        self.decoded = 0
        """Tokens that were added since somebody listens."""
        self.first: float | None = None
        """When the first of them was there, by the monotonic clock."""
        self._prompter = prompter
        self._unheard: dict[Key, _Text] = {}

    def extend(self, key: Key, tokens: Sequence[int], beliefs: Sequence[Belief] = ()) -> None:
        """Adds what was decoded of a piece."""
        begins, at = key not in self._unheard, self.position(key)
        super().extend(key, tokens, beliefs)
        if self.hear is None:
            return
        if tokens and self.first is None:
            self.first = time.monotonic()
        self.decoded += len(tokens)
        thinking = key.kind == "thinking"
        if begins:
            self._unheard[key] = _Text(self._prompter)
            if thinking and key.path and at == self.thinking_before(key.path):
                self.hear(Stretch("appended", key.path[-1], at - len(self._injected[key.path[-1]])))
            if not thinking and key.closing is not None:
                self.hear(Stretch("cut", key.closing, key.cut))
        if text := self._unheard[key].add(tokens):
            self.hear(Stretch("thinking" if thinking else "answer", text, at))

    def end(self, key: Key) -> None:
        """A stop token follows the known tokens of `key`."""
        super().end(key)
        if self.hear is None:
            return
        if key in self._unheard and (rest := self._unheard[key].rest()):
            self.hear(Stretch("thinking" if key.kind == "thinking" else "answer", rest, self.position(key)))
        if key.kind == "thinking":
            self.hear(Stretch("stop", "", self.position(key)))

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens of its own say."""
        return self._prompter.text(tokens)

    def settle(self) -> None:
        """Closes what was decoded and not kept, as where decoding was stopped half way, so that it can go on."""
        for key, piece in self._pieces.items():
            if piece.ends[-1:] != [len(piece.tokens)]:
                self.keep(key, piece.ends[-1] if piece.ends else 0)

    def position(self, key: Key) -> int:
        """Tokens of thinking up to the end of a branch, injected ones included; of an answer, its own."""
        before = self.thinking_before(key.path) if key.kind == "thinking" else 0
        return before + self.extent(key).length

    def thinking_before(self, path: BranchPath) -> int:
        """Thinking tokens before a branch's own, injected ones included."""
        return self._position(path)


class _Text:
    """The text of tokens that come one by one. Half a character waits for its other half."""

    def __init__(self, prompter: Prompter):
        self._prompter = prompter
        self._ids: list[int] = []
        self._from = self._shown = 0

    def add(self, tokens: Sequence[int]) -> str:
        """What can be read now, and could not before."""
        self._ids += tokens
        return self._more(held="\ufffd")

    def rest(self) -> str:
        """What is left, be it half a character."""
        return self._more(held="")

    def _more(self, held: str) -> str:
        before = self._prompter.text(self._ids[self._from : self._shown])
        whole = self._prompter.text(self._ids[self._from :])
        if held and whole.endswith(held):
            return ""
        self._from, self._shown = self._shown, len(self._ids)
        return whole[len(before) :]


@dataclass
class Attempt:
    """One policy on one unit, as far as it has come."""

    number: int
    question: str
    how: How
    policy: Steered
    settings: Settings
    unit: Unit
    trace: HeardTrace
    appended: tuple[Appended, ...] = ()
    parent: int | None = None
    shared: int = 0
    """Thinking tokens that it has of its parent."""
    seconds: float = 0.0
    """That its decoding took, all told."""
    first_token: float | None = None
    """Seconds from where it was asked for to its first token."""
    leaf: Leaf | None = None
    """Its account, once it is finished."""
    answer: str = ""
    parts: list[Stretch] = field(default_factory=list)
    """What there is to read of it, in order, what it has of its parent included."""

    def hear(self, part: Stretch) -> None:
        """Takes what was added."""
        last = self.parts[-1] if self.parts else None
        if last is not None and last.kind == part.kind in ("thinking", "answer"):
            self.parts[-1] = last._replace(text=last.text + part.text)
            return
        self.parts.append(part)
        if part.kind == "appended" and all((each.text, each.at) != (part.text, part.at) for each in self.appended):
            self.appended += (Appended(part.text, part.at, natural=True),)

    @property
    def path(self) -> BranchPath:
        """The branch that it is on, which may be one that it has not come to yet."""
        return self.policy.strings

    @property
    def thinking(self) -> int:
        """Thinking tokens that it has, injected ones included."""
        if self.leaf is not None:
            return self.leaf.thinking_tokens
        return self.trace.position(Key(self.reached, "thinking"))

    @property
    def reached(self) -> BranchPath:
        """The last branch that thinking has come to."""
        known = [self.path[:depth] for depth in range(len(self.path) + 1)]
        return next((path for path in reversed(known) if self.trace.tokens(Key(path, "thinking"))), ())

    def text_before(self, at: int | None) -> str:
        """What was thought before the position `at`; None: all of it."""
        parts = ((key.path[-1:], tokens) for key, tokens in pieces(self, self.thinking if at is None else at))
        return "".join("".join(string) + self.trace.text(tokens) for string, tokens in parts)

    @property
    def natural_end(self) -> int | None:
        """Where the model would have stopped by itself first; None where it was not seen to."""
        stops = (part.at for part in self.parts if part.kind == "stop")
        return next(stops, None)

    @property
    def name(self) -> str:
        """What was done, in a few words."""
        marks = "".join(f' "{each.text}" at {each.at}' for each in self.appended if not each.natural)
        natural = tuple(each.text for each in self.appended if each.natural)
        if not marks:
            return self.policy.name
        rest = Steered(self.policy.budget, natural).name
        return marks.strip() if rest == "auto" else f"{rest},{marks}"

    def record(self) -> dict[str, Any]:
        """All of it, as a line of a file has it."""
        leaf = self.leaf
        account = {"thinking_tokens": self.thinking} if leaf is None else leaf._asdict()
        account.pop("answer", None)
        return {
            "number": self.number,
            "parent": self.parent,
            "shared_tokens": self.shared,
            "how": self.how,
            "policy": self.name,
            "question": self.question,
            "thinking": "".join(part.text for part in self.parts if part.kind in ("thinking", "appended")),
            "answer": self.answer,
            "finished": leaf is not None,
            **account,
            "stopped_at": self.natural_end,
            "appended": [each._asdict() for each in self.appended],
            "decoded_tokens": self.trace.decoded,
            "seconds": round(self.seconds, 3),
            "first_token_seconds": None if self.first_token is None else round(self.first_token, 3),
            "budget": self.policy.budget,
            "effort": self.settings.effort,
            "seed": self.settings.seed,
            "sampling": asdict(self.settings.sampling),
        }


def pieces(attempt: Attempt, at: int | None) -> Iterator[tuple[Key, Sequence[int]]]:
    """The thinking of an attempt up to the position `at`, branch by branch; None: all of it."""
    path, trace = attempt.reached, attempt.trace
    for depth in range(len(path) + 1):
        key = Key(path[:depth], "thinking")
        start, tokens = trace.thinking_before(key.path), trace.tokens(key)
        if at is not None and start > at:
            return
        yield key, tokens if at is None else tokens[: at - start]
        if at is not None and at <= start + len(tokens):
            return


def read(attempt: Attempt, known: Sequence[tuple[Key, Sequence[int]]], prompter: Prompter) -> Iterator[Stretch]:
    """Some pieces of an attempt's thinking, to be read."""
    unnatural = {each.at for each in attempt.appended if not each.natural}
    end = 0
    for key, tokens in known:
        if key.path:
            yield Stretch("appended", key.path[-1], end)
        start = attempt.trace.thinking_before(key.path)
        if tokens:
            yield Stretch("thinking", prompter.text(tokens), start)
        end = start + len(tokens)
        if attempt.trace.extent(key) == (len(tokens), True) and end not in unnatural:
            yield Stretch("stop", "", end)
