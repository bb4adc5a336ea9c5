"""Times of day and ratios, ``3:30`` and ``2:3``: no decimals, and no differences of whatever is on their sides.

Two digits that could be minutes after the colon make a time, which is the same only as that time. Any other is a ratio:
the same as its multiples, and as the fraction.
"""

from __future__ import annotations

import re
from fractions import Fraction

from jobs.evaluate.grading.markup import unwrapped

_NUMBER = r"\d{1,12}(?:\.\d{1,12})?"
_PARTS = re.compile(
    rf"(?P<parts>{_NUMBER}(?: ?(?::|\\colon|\\mathbin\{{:\}}) ?{_NUMBER})+)"
    r"\s*(?P<half>[ap]\.? ?m\.?)?\s*",
    re.IGNORECASE,
)
_COLON = re.compile(r" ?(?::|\\colon|\\mathbin\{:\}) ?")
_FRACTION = re.compile(r"\\frac ?\{(\d{1,12})\} ?\{(\d{1,12})\}|(\d{1,12})/(\d{1,12})")


def ratio(text: str) -> tuple[list[str], str] | None:
    """The numbers between the colons of a tidy answer, and ``a`` or ``p`` where it says which half of the day."""
    match = _PARTS.fullmatch(unwrapped(text))
    return None if match is None else (_COLON.split(match["parts"]), (match["half"] or "")[:1].casefold())


def same_ratio(gold: str, answer: str) -> bool:
    """Whether two answers, of which at least one has a colon, are the same."""
    wanted, given = ratio(gold), ratio(answer)
    if wanted is not None and given is not None:
        if _is_time(*wanted) or _is_time(*given):
            return _same_time(wanted, given)
        numbers, others = ([Fraction(part) for part in parts] for parts in (wanted[0], given[0]))
        crossed = (one * others[0] == other * numbers[0] for one, other in zip(numbers, others, strict=False))
        return len(numbers) == len(others) and any(others) and all(crossed)
    (parts, half), text = (wanted, answer) if wanted is not None else (given or ([], ""), gold)
    match = _FRACTION.fullmatch(text)
    if match is None or len(parts) != 2 or _is_time(parts, half):
        return False
    above, below = (int(each) for each in match.groups() if each is not None)
    return below != 0 and Fraction(parts[0]) * below == Fraction(parts[1]) * above


def _is_time(parts: list[str], half: str) -> bool:
    minutes = all(len(part) == 2 and part.isdigit() and int(part) < 60 for part in parts[1:])
    return bool(half) or (minutes and parts[0].isdigit() and int(parts[0]) <= 24 and len(parts) <= 3)


def _same_time(wanted: tuple[list[str], str], given: tuple[list[str], str]) -> bool:
    """What does not say which half of the day may be meant as either, or count to 24."""
    if wanted[1] and given[1]:
        return _of_day(*wanted) == _of_day(*given)
    return bool(_readings(*wanted) & _readings(*given))


def _readings(parts: list[str], half: str) -> set[tuple[Fraction, ...]]:
    written = tuple(Fraction(part) for part in parts)
    return {written, _of_day(parts, half)} if half else {written}


def _of_day(parts: list[str], half: str) -> tuple[Fraction, ...]:
    hour, *rest = (Fraction(part) for part in parts)
    return (hour % 12 + (12 if half == "p" else 0), *rest)
