"""Rules for the quality of a row: each says why a row is dropped, or nothing.

In an experiment file a rule is its name, or its name with what it takes::

    quality: [finished, {repetition: 0.3}, {matches: '\\[asy\\]'}, {script: latin}, {at_least: 100}, s1]

To add one is to write a function here and name it in :data:`QUALITY_RULES`; another package adds its own by the group
``scaling_orchestrator.quality_rules``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.curate.row import CurateRow
from orchestrator.job.extensions import ExtensionPoint

Finds = Callable[[CurateRow], str | None]
"""Why a row is dropped; None where it is not."""


@dataclass(frozen=True)
class QualityRule:
    """A rule, as it is named."""

    make: Callable[[Any], Finds]
    """What it finds, given what it takes. Raises ValueError, in words that go after its name, where it cannot."""
    takes: str | None = None
    """What that is, in a few words; None for a rule that takes nothing."""
    default: Any = None
    """What it takes where only its name is written; None where it must be given."""


RUN = 8
"""Words of a run that counts as repeated."""
_ENDS = ("thinking_end", "answer_end")
_CUT = ("length", "context", "forced", "ignored", "rejected", "none")


def _finished(_: Any) -> Finds:
    def find(row: CurateRow) -> str | None:
        cut = [f"{name.partition('_')[0]} {row.columns[name]}" for name in _ENDS if row.columns.get(name) in _CUT]
        if cut:
            return f"cut off: {cut[0]}"
        return next((f"no {part}" for part in ("question", "trace", "answer") if not getattr(row, part).strip()), None)

    return find


def repeated(text: str) -> float:
    """The share of a text's runs of RUN words that it had before."""
    words = text.split()
    runs = [tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _repetition(most: Any) -> Finds:
    share = _number(most, 0, 1)

    def find(row: CurateRow) -> str | None:
        share_repeated = repeated(row.trace)
        return f"repeats itself in more than {share:g} of its runs of {RUN} words" if share_repeated > share else None

    return find


def _matches(pattern: Any) -> Finds:
    if not isinstance(pattern, str) or not pattern:
        raise ValueError("takes a pattern of Python's re")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a pattern: {error}") from None
    return lambda row: f"the question matches {pattern}" if compiled.search(row.question) else None


def _script(name: Any) -> Finds:
    known = ("latin", "cyrillic", "greek", "han", "arabic", "hebrew", "hangul", "devanagari")
    if name not in known:
        raise ValueError(f"{name!r} is not a script: {', '.join(known)}")
    starts = {"han": "CJK"}.get(str(name), str(name).upper())

    def find(row: CurateRow) -> str | None:
        letters = [letter for letter in f"{row.question} {row.trace}" if letter.isalpha()]
        strange = sum(
            not unicodedata.name(letter, "").startswith((starts, "GREEK", "MATHEMATICAL")) for letter in letters
        )
        return f"not in {name} letters" if strange > 0.1 * len(letters) else None

    return find


def _at_least(most: Any) -> Finds:
    fewest = _number(most, 1, 2**31)
    return lambda row: f"shorter than {fewest:g}" if row.length < fewest else None


def _at_most(most: Any) -> Finds:
    longest = _number(most, 1, 2**31)
    return lambda row: f"longer than {longest:g}" if row.length > longest else None


_NUMBERED = re.compile(r"\bp[1-9]\d{0,2}\.")
_MARKED = re.compile(r"\*\*.*?\*\*[^\n]*\d")


def _published(_: Any) -> Finds:
    """The patterns of the s1 paper's notebook, on questions."""

    def find(row: CurateRow) -> str | None:
        if "[asy]" in row.question and "aime" not in row.source.lower():
            return "a drawing in Asymptote"
        if "![Image]" in row.question:
            return "a picture"
        if _NUMBERED.search(row.question):
            return "a numbered part"
        return "a number after bold text" if _MARKED.search(row.question) else None

    return find


def _number(value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"takes a number from {least:g} to {most:g}")
    return float(value)


QUALITY_RULES: ExtensionPoint[QualityRule] = ExtensionPoint(
    "scaling_orchestrator.quality_rules",
    QualityRule,
    {
        "finished": QualityRule(_finished),
        "repetition": QualityRule(_repetition, "the share of repeated runs of words, at most", 0.2),
        "matches": QualityRule(_matches, "a pattern that questions may not match"),
        "script": QualityRule(_script, "of nine letters in ten", "latin"),
        "at_least": QualityRule(_at_least, "the length of a trace"),
        "at_most": QualityRule(_at_most, "the length of a trace"),
        "s1": QualityRule(_published),
    },
)


@dataclass(frozen=True)
class Quality:
    """A rule that an experiment asks for."""

    name: str
    find: Finds


def quality(written: Any) -> Quality:
    """The rule that is written. Raises ValueError for none."""
    name, takes = next(iter(written.items())) if isinstance(written, dict) and len(written) == 1 else (written, None)
    if not isinstance(name, str) or name not in QUALITY_RULES:
        raise ValueError(
            f"{written!r} is not a rule: known are {', '.join(QUALITY_RULES)}; write name, or {{name: value}}"
        )
    rule = QUALITY_RULES[name]
    given = rule.default if takes is None else takes
    if rule.takes is None and takes is not None:
        raise ValueError(f"{name}: takes no value: write it alone")
    if rule.takes is not None and given is None:
        raise ValueError(f"{name}: takes {rule.takes}: write {{{name}: …}}")
    try:
        return Quality(name, rule.make(given))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
