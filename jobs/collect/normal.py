"""What a question says, whatever its case, spacing and LaTeX: what makes two questions one.

Two forms. The *canonical* text keeps every symbol and no space, so that ``3 + 4`` and ``3 - 4`` stay different
questions; its hash is a question's identity. The *words* are its runs of letters and of digits alone, which is what
n-grams and near duplicates are counted in: ``\\frac{x}{2}``, ``\\dfrac x2`` and ``x/2`` have the same ones.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
_SYMBOLS = {
    name: unicodedata.lookup(f"GREEK SMALL LETTER {name.replace('lambda', 'lamda')}") for name in _GREEK.split()
}
_OTHERS = """
    varepsilon:ε vartheta:θ varphi:φ varrho:ρ upsilon:υ le:≤ leq:≤ leqslant:≤ ge:≥ geq:≥ geqslant:≥ ne:≠ neq:≠ times:×
    cdot:· div:÷ pm:± mp:∓ infty:∞ degree:° circ:° to:→ rightarrow:→ in:∈ cup:∪ cap:∩ sum:∑ prod:∏ int:∫ ldots:...
    dots:... cdots:... lbrace:{ rbrace:} lvert:| rvert:| vert:| mid:| angle:∠ triangle:△ equiv:≡ approx:≈ sqrt:√
"""
_SYMBOLS |= dict(pair.split(":") for pair in _OTHERS.split())
"""Commands that are a character of their own."""
_LAID_OUT = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|quad|qquad|hspace|hfill|phantom)\b"
    r"|\\[,;:!> ]|\\(?:begin|end)\s*\{[^{}]*\}|\\\\(?:\[[^\[\]]*\])?|&|~"
)
"""Commands that place what is said, and say nothing."""
_DELIMITERS = re.compile(r"\\\$|\$+|\\[()\[\]]")
_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:bf|it|rm|sf|tt|bb|cal|frak|scr|bm)?|mbox|hbox|operatorname\*?|boldsymbol|emph"
    r"|underline|overline|rm|bf|it)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|([^\s{}\\]))\s*(?:\{([^{}]*)\}|([^\s{}\\]))")
_CHOOSE = re.compile(r"\\[dt]binom\b")
_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?")
_ESCAPED = re.compile(r"\\([{}%#&_|])")
_TYPED: dict[int, int | str | None] = dict(
    str.maketrans("‘’‚‛′“”„″‐‑‒–—−∕⁄∗⋅", "'''''\"\"\"\"------//*·", "\u200b\u200c\u200d\ufeff\u00ad")
)
_TYPED |= {ord(digit): f"^{value}" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
"""Characters that are typed in several ways."""
_SCRIPT = re.compile(r"([\^_])\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\s+")
_END = re.compile(r"[\s.?!:;,]+$")
_WORD = re.compile(r"\d+|[^\W\d_]+")
_FIGURE = re.compile(r"\d+|[+*/^=<>≤≥≠×÷·±∓√∑∏∫∪∩∈]|(?<![^\W\d_])-|-(?![^\W\d_])")

ROUNDS = 4
"""How deep fractions and fonts may be nested in each other and still be read."""


@lru_cache(maxsize=1 << 12)
def spoken(text: str) -> str:
    """`text` in one case and one way of writing its mathematics, spaces as they are."""
    said = unicodedata.normalize("NFKC", text.translate(_TYPED)).casefold()
    said = _DELIMITERS.sub(" ", _LAID_OUT.sub(" ", said))
    said = _CHOOSE.sub(r"\\binom", said)
    for _ in range(ROUNDS):
        before = said
        said = _FONT.sub(r" \1 ", said)
        said = _SCRIPT.sub(r"\1 \2 ", said)
        said = _FRACTION.sub(lambda match: f" {match[1] or match[2]}/{match[3] or match[4]} ", said)
        if said == before:
            break
    said = _ESCAPED.sub(r"\1", said)
    return _COMMAND.sub(lambda match: f" {_SYMBOLS.get(match[1], match[1])} ", said).replace("{", " ").replace("}", " ")


def canonical(text: str) -> str:
    """What `text` says, with every symbol and without spaces or the marks that end it."""
    return _SPACE.sub("", _END.sub("", spoken(text)))


def identity(text: str) -> str:
    """Names a question: the first 16 hex digits of SHA-256 of its canonical text."""
    return hashlib.sha256(canonical(text).encode()).hexdigest()[:16]


def words(text: str) -> list[str]:
    """Its runs of letters and of digits."""
    return _WORD.findall(spoken(text))


@lru_cache(maxsize=1 << 18)
def _hashed(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def figures(text: str) -> list[str]:
    """Its numbers and signs of operations: what makes two problems of one wording different ones."""
    return _FIGURE.findall(spoken(text))


def hashes(of: list[str]) -> NDArray[np.uint64]:
    """A number of 64 bits for each word, the same in every process."""
    return np.fromiter(map(_hashed, of), np.uint64, len(of))


def grams(of: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """[words - size + 1, …]: a number for every `size` words in a row, in their order; none where there are fewer."""
    count = len(of) - size + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    total = np.zeros((count, *of.shape[1:]), np.uint64)
    for place in range(size):
        total *= _BASE
        total += of[place : place + count]
    return total


def all_grams(of: Sequence[NDArray[np.uint64]], size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """:func:`grams` of many texts at once, one after the other, and [texts + 1] where those of each begin."""
    lengths = np.fromiter(map(len, of), np.int64, len(of))
    counts = np.maximum(lengths - size + 1, 0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    flat = np.concatenate([*of, np.zeros(size, np.uint64)])
    # Of each run, where it begins among all words: those that reach into the next text are passed over.
    first = np.cumsum(lengths) - lengths
    places = np.repeat(first - starts[:-1], counts) + np.arange(starts[-1])
    return grams(flat, size)[places], starts


_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it loses nothing modulo 2^64."""
