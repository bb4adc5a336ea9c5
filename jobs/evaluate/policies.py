"""What a sweep compares: policies, each a rule for when thinking stops and how it is made to go on.

:func:`grid` spells out the policies that an experiment file asks for; :func:`curves` says which of them are the points
of one line in the plot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TAKEN = ("budget", "nothing", "pass@k", "majority@k")
"""Names of curves that are no string's."""
_WITHIN = re.compile(r" in \d+$")


@dataclass(frozen=True, order=True)
class Policy:
    """A budget and an extension rule, applied together (DESIGN section 5).

    `budget`
        Most thinking tokens, injected ones included. None is ``auto``: whatever the context leaves.
    `string`, `count`
        At each of the first `count` natural ends, `string` is appended and thinking goes on. Count 0: no extension
        (`string` is then None). An empty string appends nothing but still forbids the end.
    """

    budget: int | None = None
    string: str | None = None
    count: int = 0

    @property
    def name(self) -> str:
        """Unique within a sweep and stable across runs: ``32``, ``auto``, ``2x"Wait"``, ``2x"Wait" in 2048``."""
        budget = "auto" if self.budget is None else str(self.budget)
        if self.count == 0:
            return budget
        extension = f'{self.count}x"{self.string}"'
        return extension if self.budget is None else f"{extension} in {budget}"


@dataclass(frozen=True)
class Curve:
    """Policies that differ in one thing only, in its order: the points of one line."""

    name: str
    """``budget``, or the string that extends thinking (``nothing`` for the empty one), with its budget unless auto.

    Strings that read like another curve's name are in quotes: ``"budget"``."""
    points: tuple[Policy, ...]


def ordered(budgets: Iterable[int | None]) -> tuple[int | None, ...]:
    """Each budget once, ascending; None (``auto``) last."""
    return tuple(sorted(set(budgets), key=lambda budget: (budget is None, budget or 0)))


def grid(
    budgets: Iterable[int | None],
    strings: Iterable[str] = (),
    counts: Iterable[int] = (),
    extension_budgets: Iterable[int | None] = (None,),
) -> tuple[Policy, ...]:
    """Each of `budgets` alone, then each string at each count within each of `extension_budgets`, none twice."""
    plain = [Policy(budget) for budget in ordered(budgets)]
    extended = [
        Policy(budget, string, count)
        for budget in ordered(extension_budgets)
        for string in dict.fromkeys(strings)
        for count in sorted(set(counts))
    ]
    return tuple(plain + extended)


def curves(policies: Iterable[Policy]) -> tuple[Curve, ...]:
    """The lines that `policies` draw: one over budgets, and one over counts per string and budget.

    An extension's curve starts at count 0, the same budget without extension, when that policy is in the sweep.
    """
    members = tuple(dict.fromkeys(policies))
    plain = {policy.budget: policy for policy in members if policy.count == 0}
    found = [Curve("budget", tuple(plain[budget] for budget in ordered(plain)))] if plain else []
    lines: dict[tuple[str, int | None], list[Policy]] = {}
    for policy in members:
        if policy.string is not None:
            lines.setdefault((policy.string, policy.budget), []).append(policy)
    for (string, budget), points in lines.items():
        start = [plain[budget]] if budget in plain else []
        found.append(Curve(_name(string, budget), (*start, *sorted(points, key=lambda policy: policy.count))))
    return tuple(found)


def _name(string: str, budget: int | None) -> str:
    ambiguous = string in _TAKEN or '"' in string or _WITHIN.search(string)
    name = f'"{string}"' if ambiguous else string or "nothing"
    return name if budget is None else f"{name} in {budget}"
