"""The values that kinds of policy are written in: lengths, counts, and lists of them.

Lists of budgets, counts and limits mean sets: in what identifies a step they are in order, each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from jobs.evaluate.sweep.policy import ordered

MAX_LENGTH = 2**31 - 1
"""Tokens. No budget or count beyond it can mean anything, and no engine counts further."""

MOST_EXTENSIONS = 256
"""Of one trace. The paper has six; each is a branch of the sweep's tree below the one before."""

MOST_WIDTH = 1024
"""Steps of a level of a search."""

MOST_VALUES = 1000
"""Of one list."""

Items = TypeVar("Items", bound=tuple[Any, ...])


def is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_LENGTH


def _length(value: Any) -> Any:
    if value == "auto" or is_length(value):
        return value
    raise ValueError(f"{value!r} is not a number of tokens: give a whole number from 1, or auto")


def _limit(value: Any) -> Any:
    if is_length(value):
        return value
    raise ValueError(f"{value!r} is not a limit on thinking: give a whole number from 1")


def _count(value: Any) -> Any:
    if is_length(value) and value <= MOST_EXTENSIONS:
        return value
    raise ValueError(
        f"{value!r} is not a count of extensions: give whole numbers from 1 to {MOST_EXTENSIONS} (0 is what budgets "
        "already do)"
    )


def _width(value: Any) -> Any:
    if is_length(value) and value <= MOST_WIDTH:
        return value
    raise ValueError(f"{value!r} is not the width of a search: give whole numbers from 1 to {MOST_WIDTH:,}")


def filled(values: Items) -> Items:
    if not values:
        raise ValueError("the list is empty: give at least one")
    if len(values) > MOST_VALUES:
        raise ValueError(f"the list has {len(values):,} values: give at most {MOST_VALUES:,}")
    return values


def _text(value: str) -> str:
    if not value:
        raise ValueError('"" is empty: give at least one character')
    return value


def policy_budgets(budgets: Sequence[int | str]) -> tuple[int | None, ...]:
    """Budgets as policies count them: ascending, each once, None for ``auto``."""
    return ordered(None if isinstance(budget, str) else budget for budget in budgets)


def _canonical_budgets(budgets: Sequence[int | str]) -> list[int | str]:
    """Budgets mean the same in any order, so what identifies a step has them in one."""
    return ["auto" if budget is None else budget for budget in policy_budgets(budgets)]


def ascending(values: Sequence[int]) -> list[int]:
    """Each once, in order."""
    return sorted(set(values))


def once(values: Sequence[str]) -> list[str]:
    """Each once, as they come."""
    return list(dict.fromkeys(values))


Length = Annotated[int | Literal["auto"], BeforeValidator(_length)]
Budgets = Annotated[tuple[Length, ...], AfterValidator(filled), PlainSerializer(_canonical_budgets)]
Count = Annotated[int, BeforeValidator(_count)]
Counts = Annotated[tuple[Count, ...], AfterValidator(filled), PlainSerializer(ascending)]
_Limit = Annotated[int, BeforeValidator(_limit)]
Widths = Annotated[
    tuple[Annotated[int, BeforeValidator(_width)], ...], AfterValidator(filled), PlainSerializer(ascending)
]
"""Of searches."""
Limits = Annotated[tuple[_Limit, ...], AfterValidator(filled), PlainSerializer(ascending)]
Texts = Annotated[tuple[Annotated[str, AfterValidator(_text)], ...], AfterValidator(filled), PlainSerializer(once)]
"""Strings, none empty."""
