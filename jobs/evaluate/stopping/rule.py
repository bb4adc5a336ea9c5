"""What a stopping rule is: a small frozen dataclass, and a pure function of the matrices of probes.

A rule is a module of :mod:`jobs.evaluate.stopping.rules`, or comes with an installed package by the entry points of
``scaling_orchestrator.stopping_rules``. Its fields are its parameters, as an experiment file has them under
``stopping:``. Nothing else names it: its points, intervals, comparisons and plots are those of any policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args, get_type_hints

from jobs.evaluate.stopping import rules as ours
from orchestrator.job.extensions import ExtensionPoint

if TYPE_CHECKING:
    from jobs.evaluate.stopping.probes import Probes, Stops


class Place(NamedTuple):
    """Where thinking has written `text` for the so many-th time."""

    text: str
    time: int


@dataclass(frozen=True)
class Rule(ABC):
    """When to stop. A subclass is frozen; ``__post_init__`` raises ValueError, ``field: what; what is allowed``."""

    probes: ClassVar[bool] = True
    """Whether it asks for answers on the way: it then pays for them."""
    whole: ClassVar[bool] = False
    """Whether it can do with whole traces alone, and no probes on the way."""
    online: ClassVar[bool] = False
    """Whether it can end a trace while that is decoded: by that trace alone, and without knowing the right answer."""

    told: ClassVar[bool] = False
    """Whether it knows the right answers, so that it bounds what others can come to, and is nothing to choose."""

    @property
    def needs(self) -> frozenset[str]:
        """Of what is kept of probes besides their answers: names in :attr:`Probes.signals`."""
        return frozenset()

    @property
    def place(self) -> Place | None:
        """Where it stops whatever was answered before, so that this is its only probe; None of a rule that looks at
        probes which the experiment places."""
        return None

    @property
    @abstractmethod
    def setting(self) -> str:
        """Its parameters, as names of its points have them: ``3``."""

    @property
    def runs_of(self) -> int | None:
        """How many samples it looks at together; None: all of an item."""
        return 1

    @property
    def least(self) -> int:
        """Samples that an item must have."""
        return 1

    @abstractmethod
    def stops(self, probes: Probes) -> Stops:
        """What it comes to."""


@dataclass(frozen=True)
class RuleKind:
    """A rule under its name."""

    rule: type[Rule]
    description: str


RULES: ExtensionPoint[RuleKind] = ExtensionPoint(
    "scaling_orchestrator.stopping_rules",
    RuleKind,
    {
        path.stem: f"{ours.__name__}.{path.stem}:KIND"
        for folder in ours.__path__
        for path in sorted(Path(folder).glob("[!_]*.py"))
    },
)
"""By their names in experiment files."""


def made(name: str, given: Mapping[str, Any]) -> list[Rule]:
    """The rules of one name with each combination of the values given, ascending.

    Raises ValueError, ``field: what; what is allowed``.
    """
    rule = RULES[name].rule
    known = {each.name for each in fields(rule)}
    for field in given:
        if field not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise ValueError(f"{field}: is no parameter of {name}: {has}")
    hints = get_type_hints(rule)
    lists = [
        [_value(field, value, hints[field]) for value in (values if isinstance(values, list | tuple) else [values])]
        for field, values in given.items()
    ]
    for field, values in zip(given, lists, strict=True):
        if not values:
            raise ValueError(f"{field}: the list is empty: give at least one")
    combined = (dict(zip(given, values, strict=True)) for values in product(*(sorted(set(values)) for values in lists)))
    return [rule(**values) for values in combined]


def _value(field: str, value: Any, hint: Any) -> Any:
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    if any(isinstance(value, kind) and not isinstance(value, bool) for kind in kinds):
        return value
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wanted = {int: "a whole number", float: "a number", str: "a text"}
    raise ValueError(f"{field}: {value!r} is no value: give {' or '.join(wanted.get(kind, '?') for kind in kinds)}")


def whole(field: str, value: int, least: int) -> None:
    """Raises ValueError unless `value` is `least` at the least."""
    if value < least:
        raise ValueError(f"{field}: {value} is too few: give a whole number from {least}")


def share(field: str, value: float) -> None:
    """Raises ValueError unless `value` is within 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{field}: {value:g} is outside [0, 1]: give a number from 0 to 1")
