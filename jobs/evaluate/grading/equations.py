r"""What an equation comes to: ``5`` of ``2 + 3 = 5``, of ``x = 5`` and of ``5 = x``.

Signs within brackets are none of an equation's: ``\sum_{k=1}^{n} k``, ``\{x : f(x) = 0\}``.
"""

from __future__ import annotations

import re

_EQUALS = re.compile(r"(?<![<>!:=\\])=+(?!=)")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?(?: ?\([A-Za-z]\))?")
_RELATION = re.compile(r"[<>\u2260]|\\(?:leq?|geq?|neq?|[lg]t|equiv|sim)(?![a-zA-Z])|:=")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_BLOT = "\ue006"


def result(text: str) -> str:
    """The side of a tidy equation that is its value: the last, unless that is a name or the only number is before it.

    The text itself where it is no equation, or compares otherwise: ``x > 5``.
    """
    top = outside(text)
    ends = [match.span() for match in _EQUALS.finditer(top)]
    starts, stops = [0, *(end for _, end in ends)], [*(start for start, _ in ends), len(text)]
    sides = [text[start:stop].strip() for start, stop in zip(starts, stops, strict=True)]
    if len(sides) < 2 or _RELATION.search(top) or "" in sides[1:]:
        return text
    numbers = [side for side in sides if _NUMBER.fullmatch(side)]
    last = sides[-1]
    if len(numbers) == 1 and (_NAME.fullmatch(last) or not sides[0] or (numbers[0] == sides[0] and _is_known(last))):
        return numbers[0]
    if _NAME.fullmatch(last) and not _NAME.fullmatch(sides[0]) and sides[0]:
        return sides[0]
    return last


def _is_known(side: str) -> bool:
    """Whether no variable is in it: ``15 = 3 \\cdot 5``, not ``15 = 3x``."""
    return not re.search(r"[a-z]", re.sub(r"\\[A-Za-z]+", "", outside(side)))


def outside(text: str) -> str:
    """`text` with what is within brackets of any kind blotted out, character by character."""
    letters, depth = [], 0
    for letter in text:
        depth = max(0, depth - (letter in ")]}"))
        letters.append(_BLOT if depth else letter)
        depth += letter in "([{"
    return "".join(letters)
