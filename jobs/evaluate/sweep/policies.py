"""What a sweep compares: policies, each a rule for when thinking stops and how it is made to go on.

:func:`grid` spells out the policies that an experiment file asks for; :func:`curves` says which of them are the points
of one line in the plot, and :func:`methods` which are the runs of one way of spending more thinking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

NO_FORCING = "no forcing"
REJECTION = "rejection sampling"
STEPS = "step budget"
EFFORT = "reasoning effort"
_TAKEN = ("budget", "nothing", "pass@k", "majority@k", NO_FORCING, REJECTION, STEPS, EFFORT)
"""Names of curves that are no string's."""
_TAKEN_WITH = re.compile(r" in \d+$|^(token|step|class)-conditional")


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


@dataclass(frozen=True, order=True)
class Policy:
    """A budget, what happens where it cuts thinking, and an extension rule, applied together.

    `budget`
        Most thinking tokens, injected ones included. None is ``auto``: whatever the context leaves.
    `string`, `count`
        At each of the first `count` natural ends, `string` is appended and thinking goes on. Count 0: no extension
        (`string` is then None). An empty string appends nothing but still forbids the end.
    `wish`
        What the question says about how long to think.
    `forced`
        Whether thinking that is cut is made to answer. If not, only thinking that ends by itself is answered, and
        thinking of exactly the budget may still do so. Nothing is then extended.
    `tries`
        Rejection sampling: the first of so many samples whose thinking ends by itself within the budget is taken; 0:
        each sample is taken as it is. Such policies are not `forced`.
    `steps`
        Most steps of thinking: it is cut where the header of one more begins. Nothing is then extended.
    `effort`
        What a server that only chats is told of how hard to think. Nothing is then forced.
    """

    budget: int | None = None
    string: str | None = None
    count: int = 0
    wish: Wish | None = None
    forced: bool = True
    tries: int = 0
    steps: int | None = None
    effort: str | None = None

    @property
    def name(self) -> str:
        """Unique within a sweep and stable across runs: ``32``, ``auto``, ``2x"Wait"``, ``2x"Wait" in 2048``,
        ``no forcing``, ``token-conditional 1024 + budget forcing``, ``rejection sampling 512``,
        ``reasoning effort low``."""
        if self.wish is not None:
            asked = f"{self.wish.kind}-conditional {self.wish.value}"
            return f"{asked} + budget forcing" if self.forced else asked
        if self.effort is not None:
            return f"{EFFORT} {self.effort}"
        if not self.forced:
            return f"{REJECTION} {self.budget}" if self.tries else NO_FORCING
        if self.steps is not None:
            return f"{STEPS} {self.steps}"
        if self.count == 0:
            return self.setting
        extension = f'{self.count}x"{self.string}"'
        return extension if self.budget is None else f"{extension} in {self.budget}"

    @property
    def setting(self) -> str:
        """What sets it apart from policies of its method: ``32``, ``auto``, ``short``."""
        if self.wish is not None:
            return str(self.wish.value)
        if self.effort is not None:
            return self.effort
        if self.steps is not None:
            return str(self.steps)
        return "auto" if self.budget is None else str(self.budget)

    @property
    def asked(self) -> int | None:
        """The tokens or steps that thinking should keep to; None where no number is given."""
        if self.wish is not None:
            return self.wish.value if isinstance(self.wish.value, int) else None
        return self.budget if self.steps is None else self.steps

    @property
    def cut(self) -> int | None:
        """The tokens at which decoding of thinking stops. Where only a natural end counts, it needs one more to be
        seen."""
        return self.budget if self.forced or self.budget is None else self.budget + 1


@dataclass(frozen=True)
class Curve:
    """Policies that differ in one thing only, in its order: the points of one line."""

    name: str
    """``budget``, or the string that extends thinking (``nothing`` for the empty one), with its budget unless auto;
    ``step budget``, ``no forcing``, ``rejection sampling``, ``token-conditional``, ``step-conditional + budget
    forcing``.

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


def no_forcing() -> tuple[Policy, ...]:
    """The baseline: the model ends its thinking by itself, or it does not answer."""
    return (Policy(forced=False),)


def efforts(words: Iterable[str]) -> tuple[Policy, ...]:
    """Each reasoning effort, in the order given."""
    return tuple(Policy(forced=False, effort=word) for word in words)


def step_budgets(steps: Iterable[int]) -> tuple[Policy, ...]:
    """Thinking of so many steps each, ascending."""
    return tuple(Policy(steps=most) for most in sorted(set(steps)))


def conditional(wishes: Iterable[Wish], budget_forcing: bool, headers: bool = False) -> tuple[Policy, ...]:
    """Each wish by itself, then, with `budget_forcing`, each enforced.

    The tokens that it names are then the budget, and the steps too where the model writes `headers`; else the context
    is.
    """
    wishes = tuple(dict.fromkeys(wishes))
    alone = tuple(Policy(wish=wish, forced=False) for wish in wishes)
    return alone + tuple(_enforced(wish, headers) for wish in wishes if budget_forcing)


def _enforced(wish: Wish, headers: bool) -> Policy:
    most = wish.value if isinstance(wish.value, int) else None
    return Policy(
        budget=most if wish.kind == "token" else None,
        wish=wish,
        steps=most if wish.kind == "step" and headers else None,
    )


def rejection(limits: Iterable[int], tries: int) -> tuple[Policy, ...]:
    """Rejection sampling within each of `limits`, ascending."""
    return tuple(Policy(limit, forced=False, tries=tries) for limit in sorted(set(limits)))


def curves(policies: Iterable[Policy]) -> tuple[Curve, ...]:
    """The lines that `policies` draw: one over budgets, one over counts per string and budget, one per other method.

    An extension's curve starts at count 0, the same budget without extension, when that policy is in the sweep.
    """
    members = tuple(dict.fromkeys(policies))
    forcing = [policy for policy in members if policy.forced and policy.wish is None and policy.steps is None]
    plain = {policy.budget: policy for policy in forcing if policy.count == 0}
    drawn = [Curve("budget", tuple(plain[budget] for budget in ordered(plain)))] if plain else []
    lines: dict[tuple[str, int | None], list[Policy]] = {}
    for policy in forcing:
        if policy.string is not None:
            lines.setdefault((policy.string, policy.budget), []).append(policy)
    for (string, budget), points in lines.items():
        start = [plain[budget]] if budget in plain else []
        drawn.append(Curve(_name(string, budget), (*start, *sorted(points, key=lambda policy: policy.count))))
    others: dict[str, list[Policy]] = {}
    for policy in members:
        if policy not in forcing:
            others.setdefault(_method(policy), []).append(policy)
    return (*drawn, *(Curve(name, tuple(points)) for name, points in others.items()))


def methods(policies: Iterable[Policy]) -> Iterator[Curve]:
    """The curves with several runs, and the budgets together with each string that extends the natural end."""
    several = [curve for curve in curves(policies) if len(curve.points) > 1]
    yield from several
    budgets = [curve for curve in several if curve.name == "budget"]
    for curve in several:
        if budgets and any(point.count for point in curve.points) and not any(point.budget for point in curve.points):
            yield Curve(f"budget + {curve.name}", tuple(dict.fromkeys((*budgets[0].points, *curve.points))))


def printable(name: str) -> str:
    """`name` on one line, other names on others: what cannot be printed, and a backslash, as Python writes it."""
    return "".join(letter if letter.isprintable() and letter != "\\" else repr(letter)[1:-1] for letter in name)


def _method(policy: Policy) -> str:
    if policy.effort is not None:
        return EFFORT
    if policy.wish is None:
        return STEPS if policy.steps is not None else REJECTION if policy.tries else NO_FORCING
    return f"{policy.wish.kind}-conditional" + (" + budget forcing" if policy.forced else "")


def _name(string: str, budget: int | None) -> str:
    ambiguous = string in _TAKEN or '"' in string or _TAKEN_WITH.search(string)
    name = f'"{string}"' if ambiguous else string or "nothing"
    return name if budget is None else f"{name} in {budget}"
