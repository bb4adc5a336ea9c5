"""Numbers of each policy on a task, one record each: what tables, the report, plots' files and MLflow show of it.

Installed packages add theirs by the entry points of ``scaling_orchestrator.statistics``. A statistic is a function of
the sweep's outcomes, so it is there whenever a sweep is published, and decodes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jobs.evaluate.stats.intervals import Interval
from jobs.evaluate.stats.outcomes import Outcomes
from jobs.evaluate.sweep.policy import Policy
from orchestrator.job.extensions import ExtensionPoint


class Value(NamedTuple):
    """What a statistic comes to. NaN where it is undefined."""

    value: float
    interval: Interval | None = None
    """At 95%; None where none is given."""


@dataclass(frozen=True)
class Statistic:
    """A number of each policy."""

    title: str
    """Of its column. In files and in MLflow it is called by its name in the registry."""
    of: Callable[[Outcomes, Sequence[Policy], int], Sequence[Value]]
    """(outcomes, policies, seed): one for each policy, in the order of the outcomes' columns; the seed is that of the
    sweep, for whatever is resampled."""
    unit: Literal["share", "number"] = "number"
    """A share of 1 is shown in percent."""
    hidden_at_zero: bool = False
    """Whether its column is left out where it is 0 everywhere. One that is undefined everywhere always is."""
    ending: bool = False
    """Whether it is a share of samples that ended in some way, which the report draws as bars too."""

    def shown(self, value: float | None, low: float | None = None, high: float | None = None) -> str:
        """As people read it; a dash where it is undefined."""
        if value is None or math.isnan(value):
            return "–"
        one = "{:.1%}" if self.unit == "share" else "{:,.2f}"
        interval = "" if low is None or high is None or math.isnan(low) else f" ({one} – {one})".format(low, high)
        return one.format(value) + interval

    def is_shown(self, values: Sequence[float | None]) -> bool:
        """Whether its column is worth showing."""
        known = [value for value in values if value is not None and not math.isnan(value)]
        return any(known) if self.hidden_at_zero else bool(known)


def _share(ending: str) -> Callable[[Outcomes, Sequence[Policy], int], Sequence[Value]]:
    """Of all samples, those that ended so: one of :attr:`Outcomes.totals`."""
    return lambda outcomes, policies, seed: [Value(float(share)) for share in outcomes.mean(ending)]


def _scored(whole: bool) -> Callable[[Outcomes, Sequence[Policy], int], Sequence[Value]]:
    """What a search's scorer takes, or the `whole` with it: tokens per sample. Undefined where nothing is scored."""

    def of(outcomes: Outcomes, policies: Sequence[Policy], seed: int) -> Sequence[Value]:
        scorer = outcomes.mean("scorer_tokens")
        decoded = outcomes.mean("thinking_tokens") - outcomes.mean("injected_tokens") + outcomes.mean("answer_tokens")
        return [
            Value(float(scorer[column] + whole * decoded[column]) if policy.root.steps else math.nan)
            for column, policy in enumerate(policies)
        ]

    return of


STATISTICS: ExtensionPoint[Statistic] = ExtensionPoint(
    "scaling_orchestrator.statistics",
    Statistic,
    {
        "forced_share": Statistic("forced", _share("forced"), "share", ending=True),
        "context_share": Statistic("out of context", _share("context"), "share", hidden_at_zero=True, ending=True),
        "truncated_share": Statistic("answer cut off", _share("truncated"), "share", hidden_at_zero=True, ending=True),
        "no_answer_share": Statistic("no answer", _share("no_answer"), "share", ending=True),
        "error_share": Statistic("not graded", _share("error"), "share", hidden_at_zero=True, ending=True),
        "scorer_tokens": Statistic("scorer tokens", _scored(whole=False)),
        "tokens_with_scorer": Statistic("all tokens", _scored(whole=True)),
    },
)
"""By their names in files and in MLflow, in the order of columns."""


def measured(outcomes: Outcomes, policies: Sequence[Policy], seed: int) -> list[dict[str, Value]]:
    """All statistics of each policy, by name."""
    by_policy: list[dict[str, Value]] = [{} for _ in policies]
    for name, statistic in STATISTICS.items():
        for values, value in zip(by_policy, statistic.of(outcomes, policies, seed), strict=True):
            values[name] = value
    return by_policy
