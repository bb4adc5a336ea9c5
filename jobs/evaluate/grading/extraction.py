r"""What an answer's text says, and the rule that found it.

Only what follows the last close delimiter is looked at (``ledger.answer``), never thinking: thinking that was cut off
before it came to an answer is no answer. The first rule that finds anything wins, and is recorded:

``boxed``
    the last balanced ``\boxed{...}`` or ``\fbox{...}``;
``answer``
    what follows the *last* ``Answer:``, ``<answer>``, ``Final answer:``, ``The answer is`` or ``####``, whatever its
    case and markup, on its line, or on the next line that is not blank;
``last_number``, ``last_letter``, ``last_line``
    where the task allows it: the value of the last sentence that has a number, the last letter of a choice, the last
    line of a text;
``none``
    nothing: the verdict is ``no_answer``.

Of a sentence the value in it is taken (``values``, ``letters``); where it has none, or several, all of it is, which is
then no right answer. "The answer is" without a value is a turn of phrase. After a forced ``Final Answer:`` models go on
thinking: where its line has no value, the last sentence that has one is taken, as if nothing had been said before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.letters import last_letter, letter_of
from jobs.evaluate.grading.told import told
from jobs.evaluate.grading.values import LONGEST, has_expression, has_value, sentences, value

_UNBALANCED = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,8}\{?|Answer:")
_BRACES = re.compile(r"(?P<boxed>\\(?:boxed|fbox|framebox)\s*\{)|\\.|[{}]", re.DOTALL)
_SAID = r"(?<![A-Za-z])(?:final[ \t\n]{1,3})?answers?(?![A-Za-z])"
_MARKER = re.compile(
    rf"(?P<strong>{_SAID}[ \t]?(?:\*\*|__|\}}|\"|')?[ \t]?[:\uff1a]"
    rf"|(?:^|\n)[ \t]{{0,8}}####[ \t]"
    rf"|(?:^|\n)[#*_ \t]{{0,8}}{_SAID}[ \t]?(?:\*\*|__)?[ \t]{{0,8}}(?=\n)"
    rf"|(?:\*\*|__){_SAID}[ \t]?(?:\*\*|__)"
    rf"|(?:^|\n)[*_ \t]{{0,8}}{_SAID}[ \t]?(?:[-\u2013\u2014](?=[ \t])|[\u2192=]))"
    rf"|{_SAID}(?: (?:to|for|of)\b[^.:\n]{{1,80}}?)?[ \t]{{1,3}}"
    r"(?:is|are|must be|would be|should be|equals)(?![A-Za-z'\u2019])[ \t]?:?",
    re.IGNORECASE,
)
"""Where an answer is announced: with a colon or in a heading (``strong``), or in a sentence."""
_TAG = re.compile(
    r"[<\[](?P<closes>/)?(?:final[ _-]?)?(?:answer|ans|result|solution)[>\]]",
    re.IGNORECASE,
)
"""What stands around an answer where a prompt asks for tags: ``<answer>27</answer>``."""
_MARKUP = re.compile(r"^[*_}\s:]+")
_BOLD_BEGINS, _BOLD_ENDS = re.compile(r"(?<![\w)}])\*\*(?=[^\s*])"), re.compile(r"(?<=[^\s*])\*\*(?![\w({-])")
"""Not a power: ``x**2``."""
_DISPLAYS = {"$$": "$$", "\\[": "\\]"}
"""Delimiters of mathematics that stands on lines of its own."""
_GOES_ON = re.compile(r"(?::|=|\b(?:is|are|equals|as follows))[ \t*_]*$", re.IGNORECASE)
"""What the next line completes."""
_LETTER = re.compile(r"(?<![A-Za-z])[A-Z](?![A-Za-z'])")
_MARKERS = 20
"""The last of them that are looked at."""
_FEW_WORDS = 6
"""At most, where an answer is words."""


class Extracted(NamedTuple):
    """What was found, and how."""

    text: str | None
    rule: str
    """One of the names above, or a name that another package's type of answers gives."""


@dataclass(frozen=True)
class Form:
    """How answers of a type are written: what of a text is one. Letters are those of a choice."""

    narrowed: Callable[[str, str], str | None]
    """(found, letters): the part of what was found that is the answer; None where there is none."""
    last: Callable[[str, str], str | None]
    """(text, letters): where none is announced, the last of a text that is one."""
    rule: str
    """What `last` is called in the record."""
    is_none: Callable[[str], bool] = lambda said: False
    """Whether what is announced is none, so that what follows is looked at."""


def extract(answer: str, form: Form, letters: str = "", fallback: bool = True) -> Extracted:
    """What `answer` says, for a task whose answers have this `form`, a choice being among `letters`.

    Without `fallback`, nothing is taken from outside a box and a line that begins with ``Answer:``.
    """
    boxed = last_boxed(answer)
    if boxed is not None:
        return Extracted(form.narrowed(boxed.replace("~", " "), letters) or boxed, "boxed")
    answer = _TAG.sub(lambda match: "\n" if match["closes"] else "\nAnswer: ", answer)
    said = _announced(answer, form, letters, fallback)
    if said is not None:
        return Extracted(said, "answer")
    last = form.last(answer, letters) if fallback else None
    return Extracted(last, "none" if last is None else form.rule)


def last_boxed(text: str) -> str | None:
    r"""The content of the ``\boxed{}`` or ``\fbox{}`` that opens last, among those that close and are not blank.

    One pass whatever the text: 100 kB of braces take as long as 100 kB of words.
    """
    last_start, content = -1, None
    open_braces: list[tuple[int, bool]] = []
    for match in _BRACES.finditer(text):
        if match["boxed"]:
            open_braces.append((match.end(), True))
        elif match[0] == "{":
            open_braces.append((match.end(), False))
        elif match[0] == "}" and open_braces:
            start, is_box = open_braces.pop()
            inside = text[start : match.start()].strip() if is_box and start > last_start else ""
            if inside:
                last_start, content = start, inside
    return content


def _announced(text: str, form: Form, letters: str, fallback: bool) -> str | None:
    """What is said where an answer is announced, for the last time that anything is."""
    for match in reversed(list(_MARKER.finditer(text))[-_MARKERS:]):
        said = _after(text, match.end())
        if said is None:
            continue
        narrowed = form.narrowed(said, letters)
        if narrowed is not None:
            return narrowed
        if match["strong"] is None:
            continue
        if fallback and form.is_none(said):
            return form.last(text[match.end() :], letters) or said
        return said
    return None


def _after(text: str, at: int) -> str | None:
    """What stands after `at`: the rest of the line, or the next line; displayed mathematics whole."""
    rest = _MARKUP.sub("", text[at : at + 4 * LONGEST].replace("\r", "\n"))
    for opening, closing in _DISPLAYS.items():
        if rest.startswith(opening) and closing in rest[len(opening) :]:
            return rest[len(opening) :].partition(closing)[0].strip() or None
    line, _, more = rest.partition("\n")
    while more.strip() and (_GOES_ON.search(line) or _is_open(line) or (_is_shown(more) and not has_value(line))):
        following, _, more = more.lstrip("\n").partition("\n")
        line = f"{line} {following}"
    if len(_BOLD_ENDS.findall(line)) > len(_BOLD_BEGINS.findall(line)):  # it began before what was said
        line = _BOLD_ENDS.sub("", line, count=1)
    return line.rstrip("* \t") or None


def _is_shown(text: str) -> bool:
    """Whether displayed mathematics comes next."""
    return text.lstrip().startswith(tuple(_DISPLAYS))


def _is_open(line: str) -> bool:
    """Whether displayed mathematics, or a matrix, begins in `line` and does not end there."""
    return (
        line.count("$$") % 2 == 1
        or line.count("\\[") > line.count("\\]")
        or line.count("\\begin{") > line.count("\\end{")
    )


def _last_value(
    has: Callable[[str], bool], narrowed: Callable[[str, str], str | None], text: str, _: str
) -> str | None:
    """The value of the last sentence that has one, or that sentence; None where none has."""
    for sentence in reversed(list(sentences(_UNBALANCED.sub(" ", text)))):
        if has(sentence):
            return narrowed(sentence, "") or sentence
    return None


def _last_line(narrowed: Callable[[str, str], str | None], text: str, letters: str) -> str | None:
    lines = [line.strip() for line in text.replace("Final Answer:", "").splitlines() if line.strip()]
    return narrowed(lines[-1], letters) if lines else None


def _number(candidate: str, _: str) -> str | None:
    return _first(candidate, lambda said: canonical_integer(said) is not None)


def _expression(candidate: str, _: str) -> str | None:
    return _first(candidate, lambda said: has_expression(said) or len(said.split()) <= _FEW_WORDS)


def _text(candidate: str, _: str) -> str | None:
    return told(candidate)


def _whole(candidate: str, _: str) -> str | None:
    return candidate


def _first(candidate: str, fits: Callable[[str], bool]) -> str | None:
    """The value of `candidate`, or of the first of its sentences that has a number, if it `fits`."""
    parts = list(sentences(candidate))
    for part in (candidate, *parts[:1]) if len(parts) > 1 and has_value(parts[0]) else (candidate, *parts):
        said = value(part)
        if said is not None and fits(said):
            return said
    return None


def _no_value(said: str) -> bool:
    return not has_value(said)


def _no_letter(said: str) -> bool:
    return not _LETTER.search(said)


NUMBER_FORM = Form(_number, partial(_last_value, has_value, _number), "last_number", _no_value)
MATH_FORM = Form(_expression, partial(_last_value, has_expression, _expression), "last_number", _no_value)
LETTER_FORM = Form(letter_of, last_letter, "last_letter", _no_letter)
TEXT_FORM = Form(_text, partial(_last_line, _text), "last_line")
WHOLE_FORM = Form(_whole, partial(_last_line, _whole), "last_line")
