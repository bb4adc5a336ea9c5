r"""What an answer's text says, and the rule that found it.

Only what follows the last close delimiter is looked at (``ledger.answer``), never thinking: thinking that was cut off
before it came to an answer is no answer. The first rule that finds anything wins, and is recorded:

``boxed``
    the last balanced ``\boxed{...}`` or ``\fbox{...}``;
``answer``
    what follows the *last* ``Answer:``, ``Final answer:``, ``The answer is`` or ``####``, whatever its case and markup,
    on its line, or on the next line that is not blank;
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
from typing import Literal, NamedTuple

from jobs.evaluate.grading.answer_type import AnswerType
from jobs.evaluate.grading.integers import canonical_integer
from jobs.evaluate.grading.letters import last_letter, letter_of
from jobs.evaluate.grading.told import told
from jobs.evaluate.grading.values import LONGEST, has_expression, has_value, sentences, value

Rule = Literal["boxed", "answer", "last_number", "last_letter", "last_line", "none"]

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
_MARKUP = re.compile(r"^[*_}\s:]+")
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
    rule: Rule


def extract(answer: str, answers: AnswerType = "integer", letters: str = "", fallback: bool = True) -> Extracted:
    """What `answer` says, for a task whose answers are of type `answers`, a choice being among `letters`.

    Without `fallback`, nothing is taken from outside a box and a line that begins with ``Answer:``.
    """
    boxed = last_boxed(answer)
    if boxed is not None:
        return Extracted(_narrowed(boxed.replace("~", " "), answers, letters) or boxed, "boxed")
    said = _announced(answer, answers, letters, fallback)
    if said is not None:
        return Extracted(said, "answer")
    if not fallback:
        return Extracted(None, "none")
    if answers in ("integer", "math"):
        number = _last_value(answer, answers)
        return Extracted(number, "none" if number is None else "last_number")
    if answers == "choice":
        letter = last_letter(answer, letters)
        return Extracted(letter, "none" if letter is None else "last_letter")
    lines = [line.strip() for line in answer.replace("Final Answer:", "").splitlines() if line.strip()]
    return Extracted(_narrowed(lines[-1], answers, letters), "last_line") if lines else Extracted(None, "none")


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


def _announced(text: str, answers: AnswerType, letters: str, fallback: bool) -> str | None:
    """What is said where an answer is announced, for the last time that anything is."""
    for match in reversed(list(_MARKER.finditer(text))[-_MARKERS:]):
        said = _after(text, match.end())
        if said is None:
            continue
        narrowed = _narrowed(said, answers, letters)
        if narrowed is not None:
            return narrowed
        if match["strong"] is None:
            continue
        if fallback and answers in ("integer", "math") and not has_value(said):
            return _last_value(text[match.end() :], answers) or said
        if fallback and answers == "choice" and not _LETTER.search(said):
            return last_letter(text[match.end() :], letters) or said
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


def _last_value(text: str, answers: AnswerType) -> str | None:
    """The value of the last sentence that has a number, or that sentence; None where none has."""
    has_answer = has_expression if answers == "math" else has_value
    for sentence in reversed(list(sentences(_UNBALANCED.sub(" ", text)))):
        if has_answer(sentence):
            return _narrowed(sentence, answers, "") or sentence
    return None


def _narrowed(candidate: str, answers: AnswerType, letters: str) -> str | None:
    """The part of `candidate` that is the answer, as far as the type of the task tells; None where there is none."""
    if answers == "choice":
        return letter_of(candidate, letters)
    if answers == "integer":
        return _first(candidate, lambda said: canonical_integer(said) is not None)
    if answers == "text":
        return told(candidate)
    if answers == "math":
        return _first(candidate, lambda said: has_expression(said) or len(said.split()) <= _FEW_WORDS)
    return candidate


def _first(candidate: str, fits: Callable[[str], bool]) -> str | None:
    """The value of `candidate`, or of the first of its sentences that has a number, if it `fits`."""
    parts = list(sentences(candidate))
    for part in (candidate, *parts[:1]) if len(parts) > 1 and has_value(parts[0]) else (candidate, *parts):
        said = value(part)
        if said is not None and fits(said):
            return said
    return None
