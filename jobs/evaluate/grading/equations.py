r"""What an equation comes to: ``5`` of ``2 + 3 = 5``, of ``x = 5`` and of ``5 = x``.

Signs within brackets are none of an equation's: ``\sum_{k=1}^{n} k``, ``\{x : f(x) = 0\}``.
"""

from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction

_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_EQUALS = re.compile(r"(?<![<>!:=\\])=+(?!=)")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?(?: ?\([A-Za-z]\))?")
_STEP = re.compile(r"\$?\s*(?:[,;]|\\implies(?![a-zA-Z])|\\Rightarrow(?![a-zA-Z])|=>|\u21d2|\u2192)\s*\$?")
"""Between the steps of a calculation."""
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_LONGEST = 80
"""Characters of a side that is computed."""
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
    if len(numbers) == 1 and (
        _NAME.fullmatch(last) or not sides[0] or (numbers[0] == sides[0] and _may_be(last, sides))
    ):
        return numbers[0]
    if _NAME.fullmatch(last) and not _NAME.fullmatch(sides[0]) and sides[0]:
        return sides[0]
    return last


def concluded(text: str) -> str:
    """The last of several equations, where those before it lead to it: ``x = 9`` of ``3x = 27, x = 9``.

    The text itself where one of the others is a value too: ``x = 1, y = 2``, or ``x = 1, x = 2``.
    """
    steps = [step.strip(" $") for step in _STEP.split(text)]
    if len(steps) < 2 or not all(len(_EQUALS.findall(step)) == 1 for step in steps):
        return text
    name, _, value = (side.strip() for side in steps[-1].partition("="))
    if not _NAME.fullmatch(name) or _LETTER.search(value):
        return text
    for step in steps[:-1]:
        left, _, right = (side.strip() for side in step.partition("="))
        if (name not in left and name not in right) or _NAME.fullmatch(left):
            return text
    return steps[-1]


def _may_be(last: str, sides: list[str]) -> bool:
    """Whether the first side, a number, can be what `last` is: ``15 = 3 \\cdot 5``, not ``15 = 3x``, ``15 = 9 + 2``."""
    computed = _computed(last)
    return _is_known(last) and (computed is None or computed == _computed(sides[0]))


def _computed(side: str) -> Fraction | None:
    """The value of a short calculation with numbers alone; None of anything else."""
    plain = re.sub(r"\\(?:cdot|times)(?![a-zA-Z])|[\u00d7\u00b7]", "*", side)
    if len(plain) > _LONGEST or not re.fullmatch(r"[\d.+*/() -]+", plain):
        return None
    try:
        return _of_tree(ast.parse(plain.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        return None


def _of_tree(tree: ast.expr) -> Fraction | None:
    match tree:
        case ast.Constant(int() | float()):
            return Fraction(str(tree.value))
        case ast.UnaryOp(ast.USub(), operand):
            inner = _of_tree(operand)
            return None if inner is None else -inner
        case ast.BinOp(left, operation, right):
            first, second = _of_tree(left), _of_tree(right)
            how = _OPERATIONS.get(type(operation))
            return None if first is None or second is None or how is None else how(first, second)
    return None


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
