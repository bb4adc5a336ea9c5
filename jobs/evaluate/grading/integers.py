"""Whole numbers as text: compared by their digits, so that one of a million digits is compared like any other."""

from __future__ import annotations

import re

from jobs.evaluate.grading import units
from jobs.evaluate.grading.equations import result
from jobs.evaluate.grading.markup import unwrapped
from jobs.evaluate.grading.values import LONGEST, listed, value
from jobs.evaluate.grading.words import tidy

_NUMBER = re.compile(r"[-+\u2212]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?")
_MARKUP = re.compile(r"\\[(),;!\[\]]|[$*_`]")
_UNIT_LETTER = re.compile(r"(?<=\d) (?:[msghlLJNWVKCF]|USD|EUR)$")
"""Units of one letter: of a whole number ``5 m`` is a length, and ``5m`` a product."""
_AROUND = {"(": ")", "[": "]", "{": "}"}


def canonical_integer(text: str) -> str | None:
    """The integer that `text` says, written one way (``016`` → ``16``, ``-0`` → ``0``); None when it says none.

    Units, a name before ``=``, brackets and what sets it in type are no part of it. No value is computed: ``2^4`` says
    no integer, nor does ``32/2``.
    """
    digits = _MARKUP.sub("", text.replace("{,}", ",")).strip()
    if (integer := _canonical(digits)) is not None or len(text) > LONGEST:
        return integer
    said = value(text)
    if said is None:
        return None
    bare = units.split(tidy(said))[0] if units.split(tidy(said))[1] else unwrapped(tidy(said))
    if len(listed(bare)) > 1:
        return None
    bare = units.split(result(bare))[0]
    bare = _UNIT_LETTER.sub("", bare.replace("%", "").replace("\\{", "{").replace("\\}", "}").strip())
    while bare and _AROUND.get(bare[0]) == bare[-1]:
        bare = bare[1:-1].strip()
    return _canonical(bare)


def _canonical(text: str) -> str | None:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    whole, _, fraction = match[0].replace(",", "").partition(".")
    if fraction.strip("0"):
        return None
    digits = whole.lstrip("+-\u2212").lstrip("0") or "0"
    return f"-{digits}" if whole[0] in "-\u2212" and digits != "0" else digits
