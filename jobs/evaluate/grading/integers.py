"""Whole numbers as text: compared by their digits, so that one of a million digits is compared like any other."""

from __future__ import annotations

import re

from jobs.evaluate.grading.markup import unwrapped

NUMBER = re.compile(r"(?:(?<![\w)])[-+\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
_MARKUP = re.compile(r"\\[(),;!\[\]]|[$*_`]")


def canonical_integer(text: str) -> str | None:
    """The integer that `text` is, written one way (``016`` → ``16``, ``-0`` → ``0``); None when it is none."""
    bare = _MARKUP.sub("", unwrapped(text).replace("{,}", ",")).strip().rstrip(".")
    match = NUMBER.fullmatch(bare[1:-1].strip() if bare.startswith("(") and bare.endswith(")") else bare)
    if match is None:
        return None
    whole, _, fraction = match[0].replace(",", "").partition(".")
    if fraction.strip("0"):
        return None
    digits = whole.lstrip("+-\u2212").lstrip("0") or "0"
    return f"-{digits}" if whole[0] in "-\u2212" and digits != "0" else digits


def first_number(text: str) -> str | None:
    """The first number of `text`, as it stands there."""
    match = NUMBER.search(text)
    return match[0] if match else None


def last_number(text: str) -> str | None:
    """The last number of `text`, as it stands there."""
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers else None
