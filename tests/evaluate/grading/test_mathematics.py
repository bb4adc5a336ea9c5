"""Shortcuts of comparing mathematics: what is decided without symbolic mathematics is what it would have decided."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluate.grading.mathematics import _RELATION, _apart, _equal, decided, same
from jobs.evaluate.grading.words import tidy
from tests.evaluate.grading.answer_pairs import DIFFERENT, SAME

X, Y = sympy.symbols("x y", real=True)
FORMS = (sympy.expand, sympy.factor, sympy.together, sympy.cancel, sympy.powsimp)
"""What writes an expression otherwise."""


def combined(parts: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    return (
        st.tuples(st.sampled_from([sympy.Add, sympy.Mul]), parts, parts).map(lambda drawn: drawn[0](*drawn[1:]))
        | st.tuples(parts, st.sampled_from([-1, 2, 3])).map(lambda drawn: (drawn[0] + 7) ** drawn[1])
        | st.tuples(st.sampled_from([sympy.sqrt, sympy.sin, sympy.exp]), parts).map(lambda drawn: drawn[0](drawn[1]))
    )


ATOMS = st.integers(-9, 9).map(sympy.Integer) | st.sampled_from([X, Y, sympy.pi, sympy.Rational(2, 3), sympy.I])
EXPRESSIONS = st.recursive(ATOMS, combined, max_leaves=5)
NUMBERS = st.fractions(-2000, 2000, max_denominator=400)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer. The test's own limit goes on afterwards."""

    def stop(*_: object) -> None:
        raise TimeoutError

    handler = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)


def written(number: Fraction) -> list[str]:
    """Some of the ways to write it that are decided at once."""
    sign, above, below = "-" if number < 0 else "", abs(number.numerator), number.denominator
    if below == 1:
        return [str(number), f"{number}.0", f"{number.numerator:,}", f"${number}$."]
    return [f"{sign}\\frac{{{above}}}{{{below}}}", f"{sign}\\dfrac{{{above}}}{{{below}}}", str(float(number))]


@given(EXPRESSIONS, st.sampled_from(FORMS))
@settings(max_examples=150)
def test_an_expression_is_never_apart_from_itself_in_another_form(
    expression: sympy.Expr, form: type[sympy.Expr]
) -> None:
    assert not _apart(expression, form(expression))


@pytest.mark.seconds
@given(EXPRESSIONS, EXPRESSIONS)
@settings(max_examples=60)
def test_what_is_apart_is_not_made_equal_by_simplifying(one: sympy.Expr, other: sympy.Expr) -> None:
    if _apart(one, other):
        with suppress(TimeoutError), within(5.0):  # simplifying may take hours to find nothing
            assert sympy.simplify(one - other) != 0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("12", "x^2+3"),
        (r"\frac{\sqrt{3}}{3}", r"\frac{\sqrt{3}}{2}"),
        ("6 - 5i", "120"),
        (r"\frac{11+9a}{20}", r"\frac{11+9b}{20}"),
        (r"\sin x", r"\cos x"),
    ],
)
def test_what_is_plainly_apart_is_not_simplified(gold: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("math_verify.verify", None)
    assert not _equal(gold, answer)


@given(NUMBERS, NUMBERS, st.integers(0, 3), st.integers(0, 3), st.booleans())
@settings(max_examples=150)
def test_numbers_are_decided_as_symbolic_mathematics_decides_them(
    one: Fraction, other: Fraction, first: int, second: int, equal: bool
) -> None:
    ways = [written(one), written(one if equal else other)]
    gold, answer = ways[0][first % len(ways[0])], ways[1][second % len(ways[1])]
    verdict = decided(gold, answer)
    assert verdict is not None
    assert verdict == _equal(tidy(gold), tidy(answer))


@pytest.mark.parametrize("kind", SAME)
def test_a_name_in_front_of_a_value_changes_nothing(kind: str) -> None:
    for gold, answer in SAME[kind]:
        if decided(gold, answer) and not _RELATION.search(gold + answer):
            assert decided(gold, f"x = {tidy(answer)}"), (gold, answer)
    for gold, answer in DIFFERENT[kind]:
        assert not decided(gold, f"x = {tidy(answer)}"), (gold, answer)


def test_a_name_is_not_left_out_where_it_says_something() -> None:
    assert decided("x < 5", "x = 5") is None
    assert not decided("x = y", "y = x = 5")
    assert decided("1", r"\sum_{k=1}^{1} k") is False, "it must be evaluated"
    assert not same("y = 5", "x = 5")
