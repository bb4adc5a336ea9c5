"""What an equation comes to: ``5`` of ``2 + 3 = 5``, of ``x = 5`` and of ``5 = x``."""

from __future__ import annotations

import re

_EQUALS = re.compile(r"(?<![<>!:=\\])=+(?!=)")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?(?: ?\([A-Za-z]\))?")
_RELATION = re.compile(r"[<>\u2260]|\\(?:leq?|geq?|neq?|[lg]t|equiv|sim)(?![a-zA-Z])|:=")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


def result(text: str) -> str:
    """The side of a tidy equation that is its value: the last, unless that is a name or the only number is before it.

    The text itself where it is no equation, or compares otherwise: ``x > 5``.
    """
    sides = [side.strip() for side in _EQUALS.split(text)]
    if len(sides) < 2 or _RELATION.search(text) or "" in sides[1:]:
        return text
    numbers = [side for side in sides if _NUMBER.fullmatch(side)]
    last = sides[-1]
    if len(numbers) == 1 and (_NAME.fullmatch(last) or not sides[0] or numbers[0] == sides[0]):
        return numbers[0]
    if _NAME.fullmatch(last) and not _NAME.fullmatch(sides[0]) and sides[0]:
        return sides[0]
    return last
