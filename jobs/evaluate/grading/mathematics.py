"""Whether two expressions are the same answer: what is plain by rules of our own, the rest by ``math-verify``.

The rules are the conventions of docs/grading.md, where they are stated for people. They come first, because they decide
most answers in microseconds, and because ``math-verify`` leaves out what they compare: the base of a numeral, a unit,
the last digits of a small number.

:func:`decided` is what needs no symbolic mathematics. :func:`same` is everything; it may take long, exhaust memory or
end the process on hostile input, so it is called in processes of their own (:mod:`jobs.evaluate.grading.workers`).
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from jobs.evaluate.grading import units
from jobs.evaluate.grading.equations import outside, result
from jobs.evaluate.grading.magnitude import too_large
from jobs.evaluate.grading.markup import unwrapped
from jobs.evaluate.grading.ratios import ratio, same_ratio
from jobs.evaluate.grading.values import LONGEST, listed, value
from jobs.evaluate.grading.words import RANGE, plain, tidy, words

DEEPEST = 10
"""Brackets within brackets; beyond, an answer is not read. MATH500's have two; 10 take half a second, 16 five."""
TOLERANCE = 1e-6
"""By which numbers that are not exact may differ, relative to the gold one."""

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,  # sympy: a case that it has no method for
    RecursionError,
    TypeError,
    ValueError,
)
"""What symbolic mathematics raises on input that nobody thought of."""

_CLEARLY = 1e-4
"""By which values differ that no rounding and no tolerance makes one, relative to the gold one."""
_SOMEWHERE = 2.37
"""Of a variable: positive, so that whatever holds for real numbers and their roots and logarithms holds there."""

_DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_RATIO = re.compile(
    r"(?P<sign>[-+]?) ?(?:\\frac ?\{ ?(?P<above>-?\d{1,300}) ?\} ?\{ ?(?P<below>-?\d{1,300}) ?\}"
    r"|(?P<over>\d{1,300}) ?/ ?(?P<under>\d{1,300}))"
)
_BASE = re.compile(r"(?P<digits>[0-9A-Z]+)_\{?(?P<base>\d+)\}?")
_FINITE_WORDS = re.compile(r"[A-Za-z][A-Za-z'-]{2,}(?: [A-Za-z'-]+)*")
_WRAPPED_WHOLE = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{[^{}]*\}")
_RELATION = re.compile(r"[=<>]|\\(?:in|ni|leq?|geq?|neq?|[gl]t)(?![a-zA-Z])")
"""What makes an answer say something of a name, rather than what the name stands for."""
_COMPARES = re.compile(r"[<>]|\\(?:leq?|geq?|neq?|[gl]t|approx|sim|equiv)(?![a-zA-Z])")
_UNFINISHED = re.compile(r"[-+*/=^_<>]$|[-+*/=]\s*[*/=]|\?\?")
"""What no expression ends with, nor has in it."""
_TO_BE_DONE = re.compile(r"\\(?:i{1,3}nt|sum|prod|lim|oint)(?![a-zA-Z])|\u222b|\u2211")
_MEMBER = re.compile(r"^\\?[A-Za-z]+ ?\\in(?![a-zA-Z]) ?(?=[\[({\\])")
_PAIR_OF_VALUES = re.compile(r"\\?[A-Za-z]+ ?=[^=]*")
_OPENING = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def decided(gold: str, answer: str) -> bool | None:
    """Whether `answer` is `gold`, where that is plain to see; None where it takes mathematics."""
    if len(answer) > LONGEST or _depth(answer) > DEEPEST:
        return False
    if plain(gold) == plain(answer):
        return True
    read = _read(gold, answer)
    if read is None:
        return _is_words(tidy(gold)) and words(gold) == words(answer)
    wanted, given = read
    if ratio(wanted) or ratio(given):
        return same_ratio(wanted, given)
    if _is_words(wanted):
        return words(wanted) == words(given)
    if RANGE in given or _UNFINISHED.search(given) or (_TO_BE_DONE.search(given) and not _TO_BE_DONE.search(wanted)):
        return RANGE in wanted and plain(wanted) == plain(given)
    if (verdict := _based(wanted, given)) is not None:
        return verdict
    (wanted, wanted_unit), (given, given_unit) = units.split(wanted), units.split(given)
    if wanted_unit and given_unit and wanted_unit != given_unit:
        return False
    if "%" in wanted or "%" in given:
        return _percent(wanted, given)
    if plain(wanted) == plain(given):
        return True
    numbers = _number(wanted), _number(given)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1] if "." not in wanted + given else _close(numbers[0], numbers[1])
    if numbers[0] is not None and _COMPARES.search(given):
        return False
    return False if too_large(given) and not too_large(wanted) else None


def same(gold: str, answer: str) -> bool:
    """Whether `answer` is `gold`. Raises whatever symbolic mathematics raises, and may not come back."""
    verdict = decided(gold, answer)
    if verdict is not None:
        return verdict
    read = _read(gold, answer)
    assert read is not None, "what has no value is decided"
    wanted, given = read
    if "%" in wanted or "%" in given:
        return any(_equal(units.split(one)[0], units.split(other)[0]) for one, other in _readings(wanted, given))
    return _equal(units.split(wanted)[0], units.split(given)[0])


def _read(gold: str, answer: str) -> tuple[str, str] | None:
    """Both as values, tidied; None where the answer has none. Of an equation its result, where the gold one is a value:
    ``5`` for ``x = 5`` and for ``2 + 3 = 5``."""
    said, named = value(answer), value(gold)
    if said is None:
        return None
    wanted, given = tidy(named or gold), tidy(said)
    if _RELATION.search(outside(wanted)):
        return wanted, given
    parts = listed(given)
    if (len(parts) > 1 and all(_PAIR_OF_VALUES.fullmatch(part) for part in parts)) or (
        len(parts) > 1 and not wanted.startswith(("(", "["))
    ):
        given = ", ".join(result(part) for part in parts)
    else:
        given = result(given)
    return wanted, _MEMBER.sub("", given)


def _depth(text: str) -> int:
    depth = deepest = 0
    for letter in text:
        depth += _OPENING.get(letter, 0)
        deepest = max(deepest, depth)
    return deepest


def _is_words(text: str) -> bool:
    """Whether a gold answer is words: ``\\text{Evelyn}``, ``even``, ``\\text{(C)}``."""
    return bool(_WRAPPED_WHOLE.fullmatch(text) or _FINITE_WORDS.fullmatch(text))


def _based(gold: str, answer: str) -> bool | None:
    """Numerals to a base: the digits must be the same, and the base too where the answer says one."""
    wanted, given = _BASE.fullmatch(gold.replace(" ", "")), _BASE.fullmatch(unwrapped(answer).replace(" ", ""))
    if wanted is None and given is None:
        return None
    if wanted is not None and given is not None:
        return wanted.groups() == given.groups()
    digits, other = (wanted["digits"], answer) if wanted is not None else (given["digits"] if given else "", gold)
    return digits == other.replace(" ", "")


def _percent(gold: str, answer: str) -> bool | None:
    verdicts = []
    for one, other in _readings(gold, answer):
        if _DECIMAL.fullmatch(one) and _DECIMAL.fullmatch(other):
            verdicts.append(_close(Fraction(one), Fraction(other)))
        elif one == other:
            verdicts.append(True)
        else:
            return None
    return any(verdicts)


def _readings(gold: str, answer: str) -> list[tuple[str, str]]:
    """A percent sign is a unit that may be left out, or a hundredth: 75% is 75, and 0.75."""
    wanted, given = (text.replace("%", "").strip() for text in (gold, answer))
    readings = [(wanted, given)]
    if "%" in gold and "%" not in answer:
        readings.append((_hundredth(wanted), given))
    if "%" in answer and "%" not in gold:
        readings.append((wanted, _hundredth(given)))
    return readings


def _hundredth(text: str) -> str:
    return str(Decimal(text) / 100) if _DECIMAL.fullmatch(text) else f"\\frac{{{text}}}{{100}}"


def _number(text: str) -> Fraction | None:
    """The value of a decimal or a fraction of whole numbers; None for anything else."""
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    above, below = match["above"] or match["over"], match["below"] or match["under"]
    if not int(below):
        return None
    return Fraction(int(above), int(below)) * (-1 if match["sign"] == "-" else 1)


def _close(gold: Fraction, answer: Fraction) -> bool:
    """Equal; whole numbers exactly, others within :data:`TOLERANCE`."""
    if gold.denominator == answer.denominator == 1:
        return gold == answer
    return abs(gold - answer) <= Fraction(1, 10**6) * abs(gold)


def _equal(gold: str, answer: str) -> bool:
    """By ``math-verify``, with limits left to the caller. What it cannot read or compare as an answer is not the gold
    one; where it cannot read the gold one either, it raises."""
    from math_verify import verify

    wanted = _parsed(gold)
    try:
        given = _parsed(answer)
        if not wanted or not given or _apart(wanted[0], given[0]):
            return False
        if not verify(
            wanted, given, float_rounding=9, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True
        ):
            return _nearly(wanted[0], given[0])
        return not _further_apart(wanted[0], given[0])
    except FAILURES:
        return False


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """What ``math-verify`` reads in `text`: a list of an expression and the text, or of the text alone."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    expressions = parse(
        f"${text}$", [LatexExtractionConfig(), ExprExtractionConfig()], parsing_timeout=None, raise_on_error=True
    )
    return [_with_imaginary(each) for each in expressions]


def _with_imaginary(value: Any) -> Any:
    """`value` with the square root of -1 for the name i, which the parser takes for a variable."""
    from sympy import Expr, I

    if not isinstance(value, Expr):
        return value
    return value.xreplace({name: I for name in value.free_symbols if str(name) == "i"})


def _apart(gold: Any, answer: Any) -> bool:
    """Whether two expressions have clearly different values at some point, so that no simplification makes them equal.

    That is told in a fraction of the time that simplification takes to find nothing. False where there is no telling.
    """
    if not (_elementary(gold) and _elementary(answer)):
        return False
    names = sorted(gold.free_symbols | answer.free_symbols, key=str)
    point = {name: _SOMEWHERE + 0.618 * place for place, name in enumerate(names)}
    try:
        wanted, given = (value.evalf(20, subs=point) for value in (gold, answer))
        if not (wanted.is_finite and given.is_finite):
            return False
        return bool(abs(wanted - given).evalf(20) > _CLEARLY * (abs(wanted).evalf(20) or 1))
    except (TypeError, ValueError, OverflowError):  # there is no number
        return False


def _elementary(value: Any) -> bool:
    """Whether a value is made of numbers, variables, arithmetic and functions of school alone.

    Not one variable: ``math-verify`` compares those by their names. Nor what takes long to evaluate: sums, integrals.
    """
    from sympy import Abs, Add, Mul, Number, NumberSymbol, Pow, Symbol, UnevaluatedExpr, exp, log, preorder_traversal
    from sympy.core.numbers import ImaginaryUnit
    from sympy.functions.elementary.trigonometric import TrigonometricFunction

    known = (Add, Mul, Pow, Number, NumberSymbol, ImaginaryUnit, Symbol, UnevaluatedExpr)
    functions = (Abs, exp, log, TrigonometricFunction)
    return not isinstance(value, Symbol) and all(
        isinstance(part, (*known, *functions)) for part in preorder_traversal(value)
    )


def _nearly(gold: Any, answer: Any) -> bool:
    """Whether a number with decimals is close enough to one that has none: 0.333333 to 1/3, and 3^0.5 to its root."""
    distance = _distance(gold, answer) if _decimal(answer) else None
    return distance is not None and distance <= TOLERANCE


def _further_apart(gold: Any, answer: Any) -> bool:
    """Whether two numbers that round to the same decimals are not the same all the same: 0.0000671, 0.0000672."""
    distance = _distance(gold, answer)
    return distance is not None and distance > TOLERANCE


def _decimal(value: Any) -> bool:
    from sympy import Basic, Float

    return isinstance(value, Basic) and value.has(Float)


def _distance(gold: Any, answer: Any) -> float | None:
    """Of two real numbers, relative to the gold one; None where they are no such numbers."""
    from sympy import Expr

    if not all(isinstance(value, Expr) and value.is_number and value.is_extended_real for value in (gold, answer)):
        return None
    wanted, given = (float(value.evalf(20)) for value in (gold, answer))
    return abs(wanted - given) / abs(wanted) if wanted else abs(given)
