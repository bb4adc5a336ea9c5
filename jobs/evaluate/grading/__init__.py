r"""What an answer is worth: find what it says, compare that with the gold answer. Pure, so re-grading never decodes.

Extraction looks only at the text after the close delimiter (``ledger.answer``), never at thinking: thinking that was
cut off before it came to an answer is no answer. The first rule that finds anything wins, and is recorded:

``boxed``
    the last balanced ``\boxed{...}`` or ``\fbox{...}``;
``answer``
    what follows the *last* ``Answer:`` on its line, or on the next line that is not blank;
``last_number``
    the last number of the text;
``none``
    nothing: the verdict is ``no_answer``.

Answers are compared as exact integers by their digits: 016 is 16, 3.0 is 3, 1,000 is 1000, and 3.5 is no integer. An
answer found in words may say more than the number ("3 letters", "$16$."): its first number counts, so long as the
rule was not ``boxed``, which must hold the number alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobs.evaluate.ledger import Graded, Ledger, Verdict

if TYPE_CHECKING:  # tasks are read with this module's integers
    from jobs.evaluate.tasks import Task

_BRACES = re.compile(r"(?P<boxed>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(r"(?:(?<![\w)])[-+\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
_MARKUP = re.compile(r"\\[(),;!\[\]]|[$*_`]")


def grade(task: Task, ledger: Ledger) -> Graded:
    """`ledger` with its verdict. Raises KeyError when its item is not one of the task's."""
    gold = task.by_id[ledger.item].answer
    extracted, rule = extract(ledger.answer)
    return Graded(ledger, task.name, gold, extracted, rule, _verdict(gold, extracted, rule))


def extract(answer: str) -> tuple[str | None, str]:
    """What an answer's text says, and the rule that found it: ``("3", "boxed")``, ``(None, "none")``."""
    boxed = last_boxed(answer)
    if boxed is not None:
        return boxed, "boxed"
    _, marker, rest = answer.rpartition("Answer:")
    said = rest.lstrip().partition("\n")[0].strip() if marker else ""
    if said:
        return said, "answer"
    numbers = _NUMBER.findall(answer)
    return (numbers[-1], "last_number") if numbers else (None, "none")


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


def canonical_integer(text: str) -> str | None:
    """The integer that `text` is, written one way (``016`` → ``16``, ``-0`` → ``0``); None when it is none.

    Works on digits, not values: a number of a million digits is compared like any other.
    """
    match = _NUMBER.fullmatch(_MARKUP.sub("", text.replace("{,}", ",")).strip().rstrip("."))
    if match is None:
        return None
    whole, _, fraction = match[0].replace(",", "").partition(".")
    if fraction.strip("0"):
        return None
    digits = whole.lstrip("+-\u2212").lstrip("0") or "0"
    return f"-{digits}" if whole[0] in "-\u2212" and digits != "0" else digits


def meaning(extracted: str, rule: str) -> str:
    """What an extracted answer comes to: its integer, written one way, or else its own words.

    Answers of the same meaning are one answer: what samples vote for.
    """
    said = extracted
    if rule == "answer" and canonical_integer(extracted) is None:
        number = _NUMBER.search(extracted)
        said = number[0] if number else extracted
    return canonical_integer(said) or said


def _verdict(gold: str, extracted: str | None, rule: str) -> Verdict:
    if extracted is None:
        return "no_answer"
    return "correct" if meaning(extracted, rule) == canonical_integer(gold) else "wrong"
