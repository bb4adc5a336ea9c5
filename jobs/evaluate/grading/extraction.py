r"""What an answer's text says, and the rule that found it.

Only what follows the last close delimiter is looked at (``ledger.answer``), never thinking: thinking that was cut off
before it came to an answer is no answer. The first rule that finds anything wins, and is recorded:

``boxed``
    the last balanced ``\boxed{...}`` or ``\fbox{...}``;
``answer``
    what follows the *last* ``Answer:`` on its line, or on the next line that is not blank;
``last_number``, ``last_letter``, ``last_line``
    where the task allows it: the last number of an integer or an expression, the last letter of a choice, the last line
    of a text;
``none``
    nothing: the verdict is ``no_answer``.

An answer found in words may say more than what was asked for. Of "Answer: 16 letters" an integer is 16, and of
"Answer: (B), the second" a choice is B. A box must hold the number alone.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from jobs.evaluate.grading.integers import canonical_integer, first_number, last_number
from jobs.evaluate.grading.letters import last_letter, letter_of
from jobs.evaluate.tasks.benchmarks import AnswerType

Rule = Literal["boxed", "answer", "last_number", "last_letter", "last_line", "none"]

_BRACES = re.compile(r"(?P<boxed>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_MARKER = re.compile(r"Answer(?:\*\*|__)?:(?:\*\*|__)?")
_DISPLAYS = {"$$": "$$", "\\[": "\\]"}
"""Delimiters of mathematics that stands on lines of its own."""


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
        return Extracted(_narrowed(boxed, answers, letters, boxed=True), "boxed")
    said = last_said(answer)
    if said is not None:
        return Extracted(_narrowed(said, answers, letters, boxed=False), "answer")
    if not fallback:
        return Extracted(None, "none")
    if answers in ("integer", "math"):
        number = last_number(answer)
        return Extracted(number, "none" if number is None else "last_number")
    if answers == "choice":
        letter = last_letter(answer, letters)
        return Extracted(letter, "none" if letter is None else "last_letter")
    lines = [line.strip() for line in answer.replace("Final Answer:", "").splitlines() if line.strip()]
    return Extracted(lines[-1], "last_line") if lines else Extracted(None, "none")


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


def last_said(text: str) -> str | None:
    """What stands after the last ``Answer:``: the rest of its line, or the next line; displayed mathematics whole."""
    end = -1
    for match in _MARKER.finditer(text):
        end = match.end()
    if end < 0:
        return None
    rest = text[end:].lstrip()
    for opening, closing in _DISPLAYS.items():
        if rest.startswith(opening) and closing in rest[len(opening) :]:
            return rest[len(opening) :].partition(closing)[0].strip() or None
    return rest.partition("\n")[0].strip() or None


def _narrowed(found: str, answers: AnswerType, letters: str, *, boxed: bool) -> str:
    """The part of `found` that is the answer, where the type of the task tells."""
    if answers == "choice":
        return letter_of(found, letters) or found
    if answers == "integer" and not boxed and canonical_integer(found) is None:
        return first_number(found) or found
    return found
