r"""Answers as text: what LaTeX and markdown put around them taken away, so that the same answer is the same text.

:func:`tidy` and :func:`plain` keep everything that could make a difference. :func:`words` goes further, for answers
that are words: case, articles and punctuation are no part of them.
"""

from __future__ import annotations

import re

from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.markup import unwrapped

_THIN = re.compile(r"(?<!\\)\\[,!]")
_SPACES = re.compile(r"(?<!\\)\\(?:[;:> ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|[~\s]+")
_SIZES = re.compile(r"\\(?:displaystyle|textstyle|limits|nolimits|left|right|[bB]igg?[lr]?)(?![a-zA-Z])")
_BETWEEN = re.compile(r"(?<!\d) +| +(?!\d)")
"""Spaces but those between two digits: 1 6 is not 16."""
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]|\$")
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_LOOSE_COMMA = re.compile(r",\s*\\!\s*")
_THOUSANDS = re.compile(r"(?<![\d.,(\[])(?<!\\\{)(\d{1,3}(?:,\d{3})+)(?![\d,])")
"""Digits in groups of three; ``(1,234)`` is a pair."""
DOLLAR = "\uff04"
"""What ``\\$`` is written as, so that it is not taken for a delimiter of mathematics."""
_REPLACED = {
    "\u2212": "-",
    "\u2013": "-",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\degree": "^\\circ",
    "\u00b0": "^\\circ",
    "^{\\circ}": "^\\circ",
    "\\%": "%",
    "\\$": DOLLAR,
    "\\\\": " \\\\ ",
    "{,}": ",",
    "\\le ": "\\leq ",
    "\\ge ": "\\geq ",
    "\u03c0": "\\pi",
    "\u221e": "\\infty",
    "\u00d7": "\\times",
    "\u221a": "\\sqrt",
}
_NOT_WORDS = re.compile(r"[^\w\s%+-]|_")
_ARTICLES = {"a", "an", "the"}


def tidy(text: str) -> str:
    r"""`text` with one way of writing things: ``$\dfrac{1}{2}$.`` is ``\frac{1}{2}``, and ``10,\!080`` is ``10080``.

    Letters keep their case, and words inside ``\text{}`` their wrapper: ``\text{m}`` is a unit and ``m`` a variable.
    """
    text = text.strip().strip("*`").strip()
    for written, meant in _REPLACED.items():
        text = text.replace(written, meant)
    text = _SIZES.sub("", _DELIMITERS.sub("", _LOOSE_COMMA.sub(",", text)))
    text = _FRACTION.sub(r"\\frac", _SPACES.sub(" ", _THIN.sub("", text)))
    text = _THOUSANDS.sub(lambda match: match[1].replace(",", ""), text)
    return text.strip().rstrip(".;,").strip()


def plain(text: str) -> str:
    """:func:`tidy`, without the spaces that mean nothing: two answers with one plain form are one answer."""
    return _BETWEEN.sub("", tidy(text))


def words(text: str) -> str:
    """`text` as words in lower case, one space between them, articles and punctuation left out."""
    found = _NOT_WORDS.sub(" ", unwrapped(_DELIMITERS.sub("", text))).casefold().split()
    return " ".join(word for word in found if word not in _ARTICLES) or " ".join(found)


def meaning(extracted: str) -> str:
    """What an extracted answer comes to, written one way. Answers of one meaning are one: what samples vote for."""
    return canonical_integer(extracted) or plain(extracted) or extracted
