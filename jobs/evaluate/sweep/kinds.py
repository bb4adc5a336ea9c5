"""What an experiment file can compare: each kind of policy under a key of its own.

A kind is one module that has everything of it: the value under the key, the policies that it stands for, what is asked
of the rest of the sweep, and a :class:`PolicyKind` named ``KIND`` that holds these together. Ours are the modules of
:mod:`jobs.evaluate.sweep.policies`, by their names; others are policies by the entry points of
``scaling_orchestrator.policies``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from jobs.evaluate.sweep import policies as ours
from jobs.evaluate.sweep.policy import Policy
from jobs.template import ThinkingTemplate
from orchestrator.job.config import StepConfig
from orchestrator.job.extensions import ExtensionPoint


class SweepFields(Protocol):
    """What a kind may look at of the rest of a sweep's fields."""

    samples: int
    chat: Any
    """Not None: a server that only chats decodes."""
    search: Any
    """What searches have in common: where they branch, and what scores; None where it is not given."""

    @property
    def greedy(self) -> bool:
        """Whether every sample of an item would be the same."""

    @property
    def style(self) -> ThinkingTemplate | None:
        """How the model marks its thinking; None where only its tokenizer tells."""


class Spell(Protocol):
    """The policies that a value stands for; `before` are those of the kinds that come before it in tables."""

    def __call__(self, given: Any, sweep: SweepFields, before: Sequence[Policy]) -> Iterable[Policy]: ...


Refusal = tuple[tuple[str | int, ...], str]
"""A field below the kind's own, and why it cannot be had."""


UNTOLD = (
    "needs thinking that can be told from the answer, and template none says that there is none: leave it out, or name "
    "how the model marks its thinking"
)


def _takes_all(given: Any, sweep: SweepFields) -> None:
    """Asks nothing of the rest."""


def _refuses_none(given: Any, sweep: SweepFields) -> Iterator[Refusal]:
    return iter(())


@dataclass(frozen=True)
class PolicyKind:
    """One key of an experiment file, and the policies that can stand under it."""

    value: Any
    """The type of the value, as pydantic takes it: ``tuple[int, ...]``, a model. Lists that mean sets have a serializer
    that writes them as such: what identifies a step, and what a plan says was understood, is that."""
    policies: Spell
    description: str
    order: float
    """Among kinds, in tables. Those that vary the policies of others come after these."""
    count: Callable[[Any, int, SweepFields], int]
    """How many policies a value adds at most to so many of the kinds before, told without making any."""
    curves: tuple[str, ...] = ()
    """Names that its curves may have, to tell extension strings that read like one from it."""
    default: Any = None
    """The value where the key is left out; None: no policies."""
    cuts: bool = True
    """Whether it needs thinking that can be told from the answer."""
    check: Callable[[Any, SweepFields], None] = _takes_all
    """Raises ValueError, ``key: what; remedy``, where the rest of the sweep does not go with it."""
    searches: bool = False
    """Whether its policies are searches, for which the sweep says where they branch and what scores."""
    chats: Callable[[Any, SweepFields], Iterator[Refusal]] = _refuses_none
    """What of it a server that only chats cannot do."""


KINDS: ExtensionPoint[PolicyKind] = ExtensionPoint(
    "scaling_orchestrator.policies",
    PolicyKind,
    {
        path.stem: f"{ours.__name__}.{path.stem}:KIND"
        for folder in ours.__path__
        for path in sorted(Path(folder).glob("[!_]*.py"))
    },
)
"""By their keys."""


def with_fields(config: type[StepConfig], keys: Iterable[str], name: str) -> type[Any]:
    """`config` with a field for each kind of `keys`."""
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    for key in keys:
        kind = KINDS[key]
        value = kind.value if kind.default is not None else kind.value | None
        fields[key] = (value, Field(default=kind.default, description=kind.description))
    return create_model(name, __base__=config, __module__=config.__module__, **fields)  # type: ignore[call-overload]


def own_keys() -> list[str]:
    """The keys of this project's kinds, in the order of tables."""
    return sorted(KINDS.ours, key=lambda key: KINDS[key].order)


def given(config: BaseModel) -> dict[str, Any]:
    """What `config` has under the keys of kinds, in the order of tables; nothing that is None or false."""
    keys = [key for key in type(config).model_fields if key in KINDS.ours or key in KINDS.loaded]
    policies = {key: getattr(config, key) for key in sorted(keys, key=lambda key: KINDS[key].order)}
    return {key: value for key, value in policies.items() if value is not None and value is not False}


def spelled_out(config: Any) -> tuple[Policy, ...]:
    """All that `config` compares, none twice, in the order of tables."""
    policies: dict[Policy, None] = {}
    for key, value in given(config).items():
        policies |= dict.fromkeys(KINDS[key].policies(value, config, tuple(policies)))
    return tuple(policies)


def taken(name: str) -> bool:
    """Whether the curve of some kind has the name `name`."""
    return any(name in KINDS[key].curves for key in {**KINDS.ours, **KINDS.loaded})
