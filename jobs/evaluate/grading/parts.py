"""A sentence taken apart: its words, its marks of punctuation, and its expressions, each in one piece.

``$x = 5$ apples, or 3 + 4`` is an expression, a word, a mark, a word, and an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.evaluate.grading import units
from jobs.evaluate.grading.vocabulary import FUNCTIONS
from jobs.evaluate.grading.words import characters

_GLUE = "\ue000"
"""Stands for a space within an expression, while sentences are taken apart by their spaces."""
_ABOUT = re.compile(r"(?:(?<=\s)|^)(?:~|\\sim(?![A-Za-z])) ?(?=[\d.\\$])")
_ARROW = re.compile(r"(?<![-=<])[-=]{1,2}>(?![=>])")
_DASH = re.compile(r"\s(?:\u2013|-)\s(?=[A-Za-z]{2,})|(?<=[\w)}.])\u2014")
_WORDS = "\\mathord"
"""Stands for ``\\text`` where that is all of an expression: ``$\\text{even}$``."""
SPAN = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
"""Mathematics between its delimiters."""
_BOLD = re.compile(r"(\*\*|__)(?P<inside>[^*_]+)\1")
_MATRIX = re.compile(r"\\begin\{(\w+)\}.*?\\end\{\1\}", re.DOTALL)
_BRACKETED = re.compile(r"[(\[][^()\[\]]*[)\]]")
_KEPT = str.maketrans("()[]", "\ue002\ue003\ue004\ue005")
_GIVEN_BACK = str.maketrans("\ue002\ue003\ue004\ue005", "()[]")
_BRACED = re.compile(r"\{[^{}]*\}")
_WRAPPED = re.compile(r"\\(?:text|mbox|hbox|textrm|mathrm|textbf|textit|mathbf)\s*\{([^{}]*)\}(?!\s*\^)")
_PUNCTUATION = ".,;:!?\"'\u201c\u201d\u2018\u2019"
PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
"""A word, which is no command."""
_ORDINARY = re.compile(r"\d+(?:st|nd|rd|th)|\d+-[A-Za-z]{2,}.*|[A-Za-z]{2,}-\d+")
"""Words that have digits in them: 5th, 3-digit, COVID-19."""
_CALCULATES = re.compile(r"[=+*/^<>|\u2264\u2265\u2248\u2260\u00b1]|\\[A-Za-z{]|\d")
_DIFFERENCE = re.compile(r"(?:[A-Za-z]|\d+)(?:-(?:[A-Za-z]|\d+))+")
_SIGNED = re.compile(r"[-+](?:[A-Za-z(]|\\)")


@dataclass(frozen=True)
class SentencePart:
    """A word of a sentence, a mark of punctuation, or an expression."""

    text: str
    kind: str
    bold: bool = False

    @property
    def says(self) -> str:
        return self.text.casefold()


def parts_of(text: str) -> list[SentencePart]:
    """The words, marks and expressions of a sentence, in order."""
    text = _ARROW.sub(" \u2192 ", _DASH.sub(" \u2014 ", _ABOUT.sub("\u2248 ", text)))
    text = SPAN.sub(_spanned, characters(text))
    bold = {match["inside"].strip().rstrip(".,:;") for match in _BOLD.finditer(text)}
    text = _BOLD.sub(lambda match: match["inside"], text)
    text = _WRAPPED.sub(_opened, text)
    text = _MATRIX.sub(lambda match: re.sub(r"\s+", _GLUE, match[0]), text)
    for _ in range(3):
        text = _BRACED.sub(lambda match: match[0].replace(" ", _GLUE), text)
    for _ in range(2):
        text = _BRACKETED.sub(lambda match: match[0].replace(" ", _GLUE).translate(_KEPT), text)
    text = text.translate(_GIVEN_BACK)
    pieces: list[SentencePart] = []
    for word in re.sub(r"\s*([\^_/])\s*", r"\1", text).replace("%", "% ").split():
        pieces += _of_word(word, bold)
    return list(_joined(pieces))


def _opened(match: re.Match[str]) -> str:
    inside = match[1].strip()
    if units.is_unit(inside) or not PROSE.search(inside):
        return match[0].replace(" ", _GLUE)
    return f" {inside} "


def _spanned(match: re.Match[str]) -> str:
    inside = next(group for group in match.groups() if group is not None).strip()
    if (whole := _WRAPPED.fullmatch(inside)) and not units.is_unit(whole[1]):
        return f" {_WORDS}{{{whole[1].replace(' ', _GLUE)}}} "
    if not inside or PROSE.search(_without_commands(inside)):
        return f" {inside} "
    return f" {re.sub(chr(92) + 's+', _GLUE, inside)} "


def _without_commands(text: str) -> str:
    """`text` without commands, environments and what stands in ``\\text{}``."""
    text = re.sub(r"\\(?:text|mbox|hbox|mathrm|textrm|operatorname)\s*\{[^{}]*\}|\\(?:begin|end)\{\w+\}", " ", text)
    return re.sub(r"\\[A-Za-z]+", " ", text) if not _all_functions(text) else " "


def _all_functions(text: str) -> bool:
    return all(word.casefold() in FUNCTIONS for word in PROSE.findall(re.sub(r"\\[A-Za-z]+", " ", text)))


def _of_word(word: str, bold: set[str]) -> Iterator[SentencePart]:
    core = word.strip("\"'\u201c\u201d\u2018\u2019")
    tail = ""
    while core and core[-1] in _PUNCTUATION:
        if core[-1] == "!" and len(core) > 1 and (core[-2].isdigit() or core[-2] == ")"):
            break
        tail, core = core[-1] + tail, core[:-1]
    if core:
        text = core.replace(_GLUE, " ").replace(_WORDS, "\\text")
        yield SentencePart(text, _kind(core), text in bold)
    yield from (SentencePart(mark, "mark") for mark in tail if mark != '"')


def _kind(core: str) -> str:
    if core.casefold() in FUNCTIONS or (len(core) == 1 and core.isalpha() and core not in "aAI"):
        return "expression"
    if len(core) == 1 and core in "aAI":
        return "article"
    if _DIFFERENCE.fullmatch(core):
        return "expression"
    if _ORDINARY.fullmatch(core) or core in ("\u2014", "--", "\u2192", "\u21d2", "\u2248", "~"):
        return "word"
    if _GLUE in core or _CALCULATES.search(core) or _SIGNED.match(core) or core in ("-", "+", "%"):
        return "expression" if core not in ("\\implies", "\\Rightarrow", "\\rightarrow", "\\approx") else "word"
    return "expression" if (core[0] in "([{" and core[-1] in ")]}") or not core.strip("()[]{}") else "word"


def _joined(parts: Sequence[SentencePart]) -> Iterator[SentencePart]:
    """Expressions that only spaces part made one; articles words, unless they are among signs."""
    run: list[SentencePart] = []
    for at, part in enumerate(parts):
        if part.kind == "article":
            beside = [*parts[max(0, at - 1) : at], *parts[at + 1 : at + 2]]
            among = any(
                each.kind == "expression" and re.fullmatch(r"[-+*/=<>^]+|\\[a-z]+", each.text) for each in beside
            )
            part = SentencePart(part.text, "expression" if among else "word", part.bold)
        if part.kind == "expression":
            run.append(part)
            continue
        yield from _one(run)
        run = []
        yield part
    yield from _one(run)


def _one(run: Sequence[SentencePart]) -> Iterator[SentencePart]:
    """One expression of several; an equals sign that words follow is a verb."""
    bold = any(part.bold for part in run)
    text = " ".join(part.text for part in run)
    bare = re.sub(r"\s*[-+*/=]+$", "", text) if len(run) > 1 else text
    if bare:
        yield SentencePart(bare, "expression", bold)
    if text.endswith("=") and bare != text:
        yield SentencePart("=", "word")
