"""How large the numbers in an expression get, told without computing them: ``9^{9^{9^9}}`` would take all memory.

An estimate from above of the logarithm of everything on the way, by what stands where: towers of powers and factorials
are all that makes it large. Variables count as ten. An answer that goes beyond :data:`LARGEST` is not read.
"""

from __future__ import annotations

import math
import re

LARGEST = 10_000.0
"""Digits of a number. MATH500's have up to 11, and a power such as 2^{2005} has 604."""
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|(\\[A-Za-z]+|\\.|\S))", re.DOTALL)
_CLOSES = {"{": "}", "(": ")", "[": "]"}
_PRODUCTS = frozenset(("*", "/", "\\cdot", "\\times", "\\div"))
_BOUNDED = frozenset(("\\sum", "\\prod", "\\int", "\\lim"))
"""What has bounds where others have a power."""
_ENDS = frozenset((*_CLOSES.values(), ""))


class _TooLarge(Exception):
    """A number on the way has too many digits."""


def too_large(text: str) -> bool:
    """Whether a number of more than :data:`LARGEST` digits is made in a tidy expression."""
    if "^" not in text and "!" not in text and "binom" not in text and "Gamma" not in text:
        return False
    try:
        reader = _Reader([match[1] or match[2] for match in _TOKEN.finditer(text)])
        while reader.next:
            reader.sum()
            reader.take()
    except (_TooLarge, RecursionError):  # a tower of hundreds
        return True
    return False


class _Reader:
    """Goes through the tokens once. Values are common logarithms, at least 0."""

    def __init__(self, tokens: list[str]):
        self._tokens = [*tokens, ""]
        self._at = 0

    @property
    def next(self) -> str:
        return self._tokens[self._at]

    def take(self) -> str:
        """The next token, which is then passed; "" at the end."""
        token = self.next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def sum(self) -> float:
        """Of terms, up to a bracket that closes."""
        largest = self._term()
        while self.next not in _ENDS:
            largest = max(largest, self._term()) + math.log10(2)
        return _bounded(largest)

    def _term(self) -> float:
        total = 0.0
        if self.next in ("+", "-", ",", "=", "&", "|"):
            self.take()
        while self.next not in _ENDS and self.next not in ("+", "-", ",", "=", "&"):
            if self.next in _PRODUCTS:
                self.take()
                continue
            total = _bounded(total + self._power())
        return total

    def _power(self) -> float:
        base = self._factor()
        while self.next in ("^", "!"):
            if self.take() == "!":
                count = _count(base)
                base = _bounded(math.lgamma(count + 1) / math.log(10))
            else:
                if self.next in ("-", "+"):
                    self.take()
                exponent = self._power() if self.next not in _ENDS else 0.0
                base = _bounded(max(base, math.log10(2)) * _count(exponent))
        return base

    def _factor(self) -> float:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return max(0.0, len(token.partition(".")[0]) - 1 + _leading(token))
        if token in _CLOSES:
            inside = self.sum()
            if self.next:
                self.take()
            return inside
        if token in ("\\binom", "\\dbinom", "\\tbinom"):
            above = self._factor() if self.next not in _ENDS else 0.0
            if self.next not in _ENDS:
                self._factor()
            return _bounded(_count(above) * math.log10(2))
        if token in _BOUNDED:
            while self.next in ("_", "^"):
                self.take()
                if self.next not in _ENDS:
                    self._factor()
        if token == "\\Gamma" and self.next not in _ENDS:
            return _bounded(math.lgamma(_count(self._factor()) + 1) / math.log(10))
        return 1.0 if token.isalpha() else 0.0


def _leading(token: str) -> float:
    return math.log10(float(f"{token[:1]}.{token[1:15].replace('.', '')}0") or 1.0) if token[0].isdigit() else 0.0


def _count(logarithm: float) -> float:
    if logarithm > 6:
        raise _TooLarge
    return float(10**logarithm)


def _bounded(logarithm: float) -> float:
    if logarithm > LARGEST:
        raise _TooLarge
    return logarithm
