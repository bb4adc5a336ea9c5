"""Letters of options: which one an answer names, whatever stands around it."""

from __future__ import annotations

import re

from jobs.evaluate.grading.markup import unwrapped

_NOISE = re.compile(r"\\[(),;:!\[\] ]|[$*_`]")
_LEAD = r"(?i:(?:the\s+)?(?:correct\s+)?(?:final\s+)?(?:options?|choice|answer)(?:\s+is)?\s*:?\s*)?"
_NAMED = re.compile(
    _LEAD + r"(?:\((?P<within>[A-Za-z])\)|(?P<bare>[A-Z])(?=$|[).:,;\s\u2014\u2013-])|(?P<small>[a-z])[).]?$)"
)
_STANDING = re.compile(r"(?<![A-Za-z0-9\\'\u2019])([A-Z])(?![A-Za-z0-9'\u2019])")
_ARTICLE = re.compile(r"A(?= [a-z])|I(?=[ '\u2019])")
"""Letters that are words: "A good guess", "I think"."""


def letter_of(text: str, letters: str) -> str | None:
    r"""The letter, one of `letters`, that a short answer names: ``B``, ``(b)``, ``\text{(B)}``, ``B) 42 cm``.

    None where it names none, or begins with a word.
    """
    plain = _plain(text)
    match = _NAMED.match(plain)
    if match is None or _ARTICLE.match(plain, match.start("bare") if match["bare"] else len(plain)):
        return None
    letter = (match["within"] or match["bare"] or match["small"]).upper()
    return letter if letter in letters else None


def last_letter(text: str, letters: str) -> str | None:
    """The last of `letters` that stands by itself in `text`, and is no word."""
    found = None
    for match in _STANDING.finditer(_plain(text)):
        if match[1] in letters and not _ARTICLE.match(match.string, match.start()):
            found = match[1]
    return found


def _plain(text: str) -> str:
    """`text` without what only sets it in type."""
    return _NOISE.sub("", unwrapped(text)).strip()
