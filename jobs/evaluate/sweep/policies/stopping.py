"""``stopping: [oracle, {rule: convergence, agree: [2, 3], every: 8, until: 64}]``: rules that say when to stop.

They look at answers that are forced on the way: at the sweep's budgets, or every so many tokens, which the sweep then
decodes too. What each would have come to is replayed on those; see docs/stopping.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.stopping.rule import RULES, Rule, made
from jobs.evaluate.sweep import kinds
from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.stop_strings import StopStrings
from jobs.evaluate.sweep.policy import Mark, Policy, Route
from jobs.evaluate.sweep.values import MAX_LENGTH, filled
from orchestrator.job.strict_model import StrictModel

MOST_PROBES = 1000
"""Of one rule. Each is an answer of every sample."""


T = TypeVar("T")


class Stopping(StrictModel):
    """A rule by its name, with each combination of the values of its parameters."""

    rule: str
    every: int | None = Field(default=None, ge=1, le=MAX_LENGTH, description="tokens between probes; None: the budgets")
    until: int | None = Field(default=None, ge=1, le=MAX_LENGTH, description="tokens up to which it probes")
    at: str | None = Field(default=None, min_length=1, description="text that is probed wherever thinking writes it")
    times: int | None = Field(default=None, ge=1, description="times that it is, counted from the first")
    tolerance: float = Field(
        default=0.01, ge=0, le=1, description="accuracy that the setting chosen on other items may lack of the best"
    )
    online: bool = Field(
        default=False, description="whether thinking stops there, in place of being decoded to its end"
    )
    parameters: dict[str, Any] = Field(default={}, description="of the rule: a value each, or a list of them")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        """A name alone, and parameters beside it."""
        value = {"rule": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping) or "parameters" in value:
            return value
        fields = {name: each for name, each in value.items() if name in cls.model_fields}
        return fields | {"parameters": {name: each for name, each in value.items() if name not in cls.model_fields}}

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.rule not in RULES:
            raise ValueError(f"rule: {self.rule!r} is no stopping rule: there are {', '.join(sorted(RULES))}")
        made(self.rule, self.parameters)
        placed = {name: getattr(self, name) for name in ("every", "until", "at", "times")}
        if any(rule.place for rule in self.rules) and (given := [name for name in placed if placed[name] is not None]):
            raise ValueError(f"{given[0]}: {self.rule} says itself where it stops: leave it out")
        if (self.at is None) != (self.times is None):
            raise ValueError("at: goes with times: give {at: Wait, times: 8}, or leave both out")
        if self.at is not None and self.every is not None:
            raise ValueError("at: a rule is probed at a text, or every so many tokens: leave out one of the two")
        if self.until is not None and self.every is None:
            raise ValueError(f"until: {self.until} needs every: give both, or leave it out to probe at the budgets")
        if self.every is not None and self.until is None:
            raise ValueError(f"every: {self.every} needs until: say up to how many tokens it probes")
        if self.online:
            able = sorted(name for name in RULES if RULES[name].rule.online)
            if not RULES[self.rule].rule.online:
                raise ValueError(f"online: {self.rule} cannot stop a trace as it is decoded: {', '.join(able)} can")
            if len(self.rules) > 1:
                raise ValueError(f"online: one setting of {self.rule} can run, and these are {len(self.rules)}: choose")
            if self.every is None and not self.rules[0].place:
                raise ValueError("online: needs every: and until:, which say where it probes")
        if self.every is not None and self.until is not None and not 1 <= self.until // self.every <= MOST_PROBES:
            raise ValueError(
                f"every: {self.until // self.every:,} probes, every {self.every} tokens until {self.until}: have 1 to "
                f"{MOST_PROBES:,} of them"
            )
        if (self.times or 0) > MOST_PROBES:
            raise ValueError(f"times: {self.times:,} probes are too many: have 1 to {MOST_PROBES:,} of them")
        return self

    @property
    def rules(self) -> list[Rule]:
        """What it stands for."""
        return made(self.rule, self.parameters)

    def cuts(self, budgets: Sequence[int]) -> tuple[int, ...]:
        """Where it probes, in tokens of thinking, in a sweep with these `budgets`; nowhere where it does at a text."""
        if self.at is not None:
            return ()
        if self.every is None or self.until is None:
            return tuple(budgets)
        return tuple(range(self.every, self.until + 1, self.every))

    @property
    def mark(self) -> Mark:
        """Stands for the rule in a tree, where it runs."""
        named = {name: value for name, value in self.record.items() if name not in ("tolerance", "online")}
        return Mark("rule", (json.dumps(named, sort_keys=True),))

    @property
    def record(self) -> dict[str, Any]:
        """What identifies it."""
        values = {
            name: sorted(set(value)) if isinstance(value, list | tuple) else [value]
            for name, value in self.parameters.items()
        }
        record: dict[str, Any] = {"rule": self.rule, **dict(sorted(values.items()))}
        record |= {"tolerance": self.tolerance, **({"online": True} if self.online else {})}
        placed = {name: getattr(self, name) for name in ("every", "until", "at", "times")}
        return record | {name: value for name, value in placed.items() if value is not None}


@dataclass(frozen=True)
class Stopped(Policy):
    """Thinking, or sampling, until a rule says that it is enough."""

    rule_name: str
    rule: Rule
    probes: tuple[Policy, ...]
    """The answers that it looks at; the last is what it comes to where the rule never says so."""
    probing: str = ""
    """Where those are, unless at the sweep's budgets: as names have it."""

    @property
    def name(self) -> str:
        return f"{self.rule_name} {self.rule.setting}{self.probing}"

    @property
    def method(self) -> str:
        return f"{self.rule_name}{self.probing}"

    @property
    def setting(self) -> str:
        return self.rule.setting

    @property
    def leaves(self) -> tuple[Policy, ...]:
        return self.probes

    @property
    def runs_of(self) -> int | None:
        return self.rule.runs_of

    @property
    def told(self) -> bool:
        return self.rule.told


@dataclass(frozen=True)
class WatchedProbe(Policy):
    """A probe of a rule that runs: thinking within a budget, and to where the rule stopped it."""

    budget: int | None
    mark: Mark

    @property
    def name(self) -> str:
        return Budget(self.budget).name

    @property
    def method(self) -> str:
        return Budget.METHOD

    @property
    def setting(self) -> str:
        return self.name

    @property
    def route(self) -> Route:
        return Route(self.budget, mark=self.mark)

    @property
    def place(self) -> float:
        return Budget(self.budget).place

    @property
    def asked(self) -> int | None:
        return self.budget


@dataclass(frozen=True)
class CrossFitted(Policy):
    """Of several settings of a rule, for each half of the items the one that was best on the other half. They look at
    as many samples each."""

    candidates: tuple[Stopped, ...]
    tolerance: float
    """Of accuracy: the cheapest setting is taken that is within it of the best."""

    @property
    def name(self) -> str:
        return self.method

    @property
    def method(self) -> str:
        of = f" of {self.runs_of}" if (self.runs_of or 1) > 1 else ""
        return f"{self.candidates[0].method}{of}, cross-fitted"

    @property
    def setting(self) -> str:
        return "cross-fitted"

    @property
    def leaves(self) -> tuple[Policy, ...]:
        return self.candidates[0].leaves

    @property
    def runs_of(self) -> int | None:
        return self.candidates[0].runs_of


def replayed(given: Sequence[Stopping], before: Sequence[Policy]) -> Iterator[Policy]:
    """The policies of rules, in a sweep that also has those `before`."""
    budgets = [policy.budget for policy in before if isinstance(policy, Budget)]
    known = sorted(budget for budget in budgets if budget is not None)
    for each in given:
        end = (Budget(),) if None in budgets else ()
        points = [Stopped(each.rule, rule, _leaves(each, rule, known, end), _probing(each)) for rule in each.rules]
        yield from points
        yield from (CrossFitted(tuple(alike), each.tolerance) for alike in _alike(points, lambda point: point.runs_of))


def _leaves(each: Stopping, rule: Rule, budgets: Sequence[int], end: tuple[Budget, ...]) -> tuple[Policy, ...]:
    """The answers that a rule looks at; `end` is that of all of thinking, where the sweep has it."""
    if rule.place is not None:
        return (StopStrings((rule.place.text,), rule.place.time - 1),)
    if each.online:
        return tuple(WatchedProbe(cut, each.mark) for cut in (*each.cuts(()), None))
    if each.at is not None:
        return (*(StopStrings((each.at,), number) for number in range(each.times or 0)), *end)
    return (*(Budget(cut) for cut in each.cuts(budgets)), *end)


def _probing(each: Stopping) -> str:
    if each.at is not None:
        return f' at "{each.at}"'
    return "" if each.every is None else f" every {each.every}"


def _alike(points: Sequence[T], runs_of: Callable[[T], int | None]) -> Iterator[list[T]]:
    """Those that look at as many samples, where they are several."""
    for samples in dict.fromkeys(map(runs_of, points)):
        alike = [point for point in points if runs_of(point) == samples]
        if len(alike) > 1:
            yield alike


def count(given: Sequence[Stopping], before: int, sweep: SweepFields) -> int:
    return sum(len(each.rules) + len(list(_alike(each.rules, lambda rule: rule.runs_of))) for each in given)


def check(given: Sequence[Stopping], sweep: SweepFields) -> None:
    budgets = [budget for budget in kinds.given(sweep).get("budgets", ()) if isinstance(budget, int)]
    if any(each.online for each in given):
        if len(given) > 1:
            raise ValueError("stopping: one rule can run online, by itself: give the others a step of their own")
        others = [key for key in kinds.given(sweep) if key != "stopping" and key in sweep.model_fields_set]
        if others:
            raise ValueError(
                f"{others[0]}: asks for more than the rule that runs online (stopping) decodes: leave it out, or give "
                "it a step of its own, which shares its traces"
            )
    names = [policy.name for policy in replayed(given, [Budget(budget) for budget in budgets])]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"stopping: {twice[0]!r} is there twice: give one list of values, or other tokens for every")
    for each in given:
        end = (Budget(),) if RULES[each.rule].rule.whole and "auto" in kinds.given(sweep).get("budgets", ()) else ()
        if not _leaves(each, each.rules[0], budgets, end):
            raise ValueError(
                f"stopping: {each.rule} has no probes: give it every: and until:, or the sweep budgets in tokens"
            )
        for rule in each.rules:
            if rule.needs and not sweep.confidence:
                raise ValueError(
                    f"stopping: {each.rule} needs the log-probabilities of an engine that gives them: set "
                    "confidence: true"
                )
            if rule.least > sweep.samples:
                raise ValueError(
                    f"stopping: {each.rule} {rule.setting} needs {rule.least} samples of an item, and samples is "
                    f"{sweep.samples}: raise it, or lower what the rule looks at"
                )


def chats(given: Sequence[Stopping], sweep: SweepFields) -> Iterator[Refusal]:
    yield (), "needs answers forced on the way, and a server that only chats shows no thinking: leave it out"


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _records(given: Sequence[Stopping]) -> list[dict[str, Any]]:
    return [each.record for each in given]


Rules = Annotated[tuple[Stopping, ...], BeforeValidator(_listed), AfterValidator(filled), PlainSerializer(_records)]

KIND = PolicyKind(
    value=Rules,
    policies=lambda given, sweep, before: replayed(given, before),
    description="rules that say when to stop, replayed on the sweep's own forced answers",
    order=200,
    count=count,
    check=check,
    chats=chats,
)
