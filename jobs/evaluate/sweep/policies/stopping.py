"""``stopping: [oracle, {rule: convergence, agree: [2, 3], every: 8, until: 64}]``: rules that say when to stop.

They look at answers that are forced on the way: at the sweep's budgets, or every so many tokens, which the sweep then
decodes too. What each would have come to is replayed on those; see docs/stopping.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from jobs.evaluate.stopping.rule import RULES, Rule, made
from jobs.evaluate.sweep.kinds import PolicyKind, Refusal, SweepFields
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.values import MAX_LENGTH, filled
from orchestrator.job.strict_model import StrictModel

MOST_PROBES = 1000
"""Of one rule. Each is an answer of every sample."""


class Stopping(StrictModel):
    """A rule by its name, with each combination of the values of its parameters."""

    rule: str
    every: int | None = Field(default=None, ge=1, le=MAX_LENGTH, description="tokens between probes; None: the budgets")
    until: int | None = Field(default=None, ge=1, le=MAX_LENGTH, description="tokens up to which it probes")
    tolerance: float = Field(
        default=0.01, ge=0, le=1, description="accuracy that the setting chosen on other items may lack of the best"
    )
    parameters: dict[str, Any] = Field(default={}, description="of the rule: a value each, or a list of them")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        """A name alone, and parameters beside it."""
        value = {"rule": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping) or "parameters" in value:
            return value
        own = {name: each for name, each in value.items() if name in cls.model_fields}
        return own | {"parameters": {name: each for name, each in value.items() if name not in cls.model_fields}}

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.rule not in RULES:
            raise ValueError(f"rule: {self.rule!r} is no stopping rule: there are {', '.join(sorted(RULES))}")
        made(self.rule, self.parameters)
        if self.until is not None and self.every is None:
            raise ValueError(f"until: {self.until} needs every: give both, or leave it out to probe at the budgets")
        if self.every is not None and self.until is None:
            raise ValueError(f"every: {self.every} needs until: say up to how many tokens it probes")
        if self.every is not None and self.until is not None and not 1 <= self.until // self.every <= MOST_PROBES:
            raise ValueError(
                f"every: {self.until // self.every:,} probes, every {self.every} tokens until {self.until}: have 1 to "
                f"{MOST_PROBES:,} of them"
            )
        return self

    @property
    def rules(self) -> list[Rule]:
        """What it stands for."""
        return made(self.rule, self.parameters)

    def cuts(self, budgets: Sequence[int]) -> tuple[int, ...]:
        """Where it probes, in tokens of thinking, in a sweep with these `budgets`."""
        if self.every is None or self.until is None:
            return tuple(budgets)
        return tuple(range(self.every, self.until + 1, self.every))

    @property
    def record(self) -> dict[str, Any]:
        """What identifies it."""
        values = {
            name: sorted(set(value)) if isinstance(value, list | tuple) else [value]
            for name, value in self.parameters.items()
        }
        record: dict[str, Any] = {"rule": self.rule, **dict(sorted(values.items()))}
        record["tolerance"] = self.tolerance
        return record | ({} if self.every is None else {"every": self.every, "until": self.until})


@dataclass(frozen=True)
class Stopped(Policy):
    """Thinking, or sampling, until a rule says that it is enough."""

    rule_name: str
    rule: Rule
    probes: tuple[Policy, ...]
    """The answers that it looks at; the last is what it comes to where the rule never says so."""
    every: int | None = None

    @property
    def name(self) -> str:
        return f"{self.rule_name} {self.rule.setting}{self._probing}"

    @property
    def method(self) -> str:
        return f"{self.rule_name}{self._probing}"

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
    def _probing(self) -> str:
        return "" if self.every is None else f" every {self.every}"


@dataclass(frozen=True)
class CrossFitted(Policy):
    """Of several settings of a rule, for each half of the items the one that was best on the other half."""

    candidates: tuple[Stopped, ...]
    tolerance: float
    """Of accuracy: the cheapest setting is taken that is within it of the best."""

    @property
    def name(self) -> str:
        return self.method

    @property
    def method(self) -> str:
        return f"{self.candidates[0].method}, cross-fitted"

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
        leaves = (*(Budget(cut) for cut in each.cuts(known)), *end)
        points = tuple(Stopped(each.rule, rule, leaves, each.every) for rule in each.rules)
        yield from points
        if len(points) > 1:
            yield CrossFitted(points, each.tolerance)


def count(given: Sequence[Stopping], before: int, sweep: SweepFields) -> int:
    return sum(len(each.rules) + (len(each.rules) > 1) for each in given)


def check(given: Sequence[Stopping], sweep: SweepFields) -> None:
    for each in given:
        budgets = [budget for budget in sweep.budgets if isinstance(budget, int)]
        if not each.cuts(budgets):
            raise ValueError(
                f"stopping: {each.rule} has no probes: give it every: and until:, or the sweep budgets in tokens"
            )
        for rule in each.rules:
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
