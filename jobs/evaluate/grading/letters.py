"""Letters of options: which one an answer names, whatever stands around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from jobs.evaluate.grading.markup import unwrapped

LONGEST = 1000
"""Characters of an answer, and of the end of a text, in which a letter is looked for."""

_NOISE = re.compile(r"\\(?:displaystyle|left|right)(?![A-Za-z])|\\quad|\\[(),;:!\[\] ]|[$*_`~]")
_BRACES = re.compile(r"\\?[{}]")
_OPEN = "(\\[\"'\u201c\u2018<\u00ab"
_CLOSE = ")\\]\"'\u201d\u2019>\u00bb"
_ALONE = re.compile(rf"[{_OPEN}]*([A-Za-z])[{_CLOSE}]*[).:,;!]*")
_LEAD = re.compile(
    r"(?:so |thus |therefore |hence )?,? ?(?:it'?s |it is )?(?:the )?(?:correct |right |best |final )?"
    r"(?:options?|choice|answer|letter)?(?: is| are)? ?:? ?",
    re.IGNORECASE,
)
_LEADING = re.compile(rf"(?:[{_OPEN}](?P<within>[A-Za-z])[{_CLOSE}]|(?P<bare>[A-Z])(?=$|[).:,;! \u2014\u2013/&-]))")
_STANDING = re.compile(
    rf"(?<![A-Za-z0-9\\'\u2019\u00b0^_/-])(?:(?P<bare>[A-Z])(?![A-Za-z0-9'\u2019^_+=-])"
    rf"|(?P<open>[{_OPEN}])(?P<within>[A-Za-z])(?=[{_CLOSE}]))"
)
_ARTICLE = re.compile(r"A(?= [a-z])|I(?=[ '\u2019])")
"""Letters that are words: "A good guess", "I think"."""
_VERB_AFTER = re.compile(
    r"[)\]\"'\u201d\u2019]* (?:is|are|was|must|can|seems|looks|because|since|as|and|or|fits|matches|has|gives)\b"
)
_NAME = re.compile(
    r"\b(?:vitamins?|hepatitis|influenza|ha?emoglobin|plan|group|team|type|class|point|grade|schedule|section|appendix|"
    r"compound|element|block|box|train|car|person|player|factor|region|city|town|company|firm|product|country|machine|"
    r"substance|sample|mixture|gene|allele|protein|species|material|phase|planet|star|object|particle|line|angle|side|"
    r"row|column|event|tank|pipe|worker|node|vertex|store|level|stage|part|room|building|bag|urn|container|beaker|"
    r"flask|tube|patient|student|zone|area|district|county|state|school|house|gate|terminal|track) $",
    re.IGNORECASE,
)
"""What is called by a letter that is no option's: vitamin C."""
_OTHER = re.compile(
    rf"[{_CLOSE}).:;]* ?(?:or|and|&|/|,)(?: (?:maybe|perhaps|possibly|even|also|either|option|choice))? ?"
    rf"[{_OPEN}]?([A-Z])(?![A-Za-z'])"
)
_COMMA = re.compile(rf"[{_CLOSE}]* ?, ?[{_OPEN}]?[A-Z](?![A-Za-z'])")
_CHOSEN = re.compile(
    r"(?:\b(?:is|be|are|was|option|options|choice|answer|choose|chose|pick|picked|select|selected|say|guess|letter|with|"
    r"not [^.]{1,40} but|"
    r"therefore|thus|hence|so|definitely|probably|clearly|likely|certainly|it's|it\u2019s|that's|that\u2019s|remains|leaves|to)"
    r"(?: the| option| choice| answer| letter)*|[:=\u2192>]) ?$",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:\b(?:not|never|than|neither|nor|except|unlike|exclude|excludes|eliminate|eliminates|reject|out|of|over|against|without|isn't|"
    r"isn\u2019t|cannot be|can't be|wrong)(?: the| option| choice| answer| necessarily| be)*) ?$",
    re.IGNORECASE,
)
_REFUSED_AFTER = re.compile(
    r"[)\]\"'\u201d\u2019.:]* ?(?:is|are|was|seems|looks|can be|must be)(?: clearly| also| obviously| therefore)? "
    r"(?:wrong|incorrect|false|not|out|ruled|impossible|eliminated|excluded|rejected)|"
    r"[)\]\"'\u201d\u2019.:]* ?(?:isn't|isn\u2019t|cannot|can't|can\u2019t|fails)\b",
    re.IGNORECASE,
)


class _Named(NamedTuple):
    """A letter in a sentence."""

    letter: str
    chosen: bool
    """Whether the words before it, or brackets, say that it is meant."""
    start: int
    end: int


def letter_of(text: str, letters: str) -> str | None:
    r"""The letter, one of `letters`, that a short answer names: ``B``, ``(b)``, ``"B"``, ``B) 42 cm``, "It must be B".

    None where it names none, or several.
    """
    plain = _plain(text[:LONGEST])
    lead = _LEAD.match(plain)
    rest = plain[lead.end() :] if lead is not None else plain
    for said in dict.fromkeys((plain, rest)):
        if alone := _ALONE.fullmatch(said):
            return _one_of(alone[1], letters)
    for said in dict.fromkeys((plain, rest)):
        match = _LEADING.match(said)
        if match is not None and not (match["bare"] and _ARTICLE.match(said)):
            letter = match["within"] or match["bare"]
            if _REFUSED_AFTER.match(said, match.end()):
                break
            return None if _has_other(said, match.end(), letters) else _one_of(letter, letters)
    return _only([named for named in _standing(plain) if named.letter in letters], plain, letters, last=False)


def last_letter(text: str, letters: str) -> str | None:
    """The letter that the end of a text settles on: of the last line alone, or of the last sentence that names one."""
    lines = [line.strip() for line in text[-4 * LONGEST :].splitlines() if line.strip()]
    if not lines:
        return None
    if alone := _ALONE.fullmatch(_plain(lines[-1][-LONGEST:])):
        return _one_of(alone[1], letters)
    for line in reversed(lines):
        for sentence in reversed(re.split(r"(?<=[.!?]) (?=[A-Z(\"'])", _plain(line[-LONGEST:]))):
            named = [each for each in _standing(sentence) if each.letter in letters]
            if named:
                return _only(named, sentence, letters, last=True)
    return None


def _only(named: Sequence[_Named], text: str, letters: str, *, last: bool) -> str | None:
    """The one letter of those in a sentence that is meant; None where several are, or none is said to be."""
    chosen = [each for each in named if each.chosen]
    if not chosen:
        if len({each.letter for each in named}) != 1 or not last:
            return named[0].letter if len(named) == 1 and _VERB_AFTER.match(text, named[0].end) else None
        chosen = list(named)
    meant = chosen[-1] if last else chosen[0]
    if _has_other(text, meant.end, letters):
        return None
    before = [each for each in named if each.end <= meant.start]
    return None if before and _has_other(text, before[-1].end, letters) else meant.letter


def _standing(text: str) -> list[_Named]:
    named = []
    for match in _STANDING.finditer(text):
        if match["bare"] and _ARTICLE.match(text, match.start()):
            continue
        start = match.start()
        before, end = text[max(0, start - 60) : start], match.end()
        if (match["bare"] and _NAME.search(before)) or _REFUSED.search(before) or _REFUSED_AFTER.match(text, end):
            continue
        chosen = match["within"] is not None or _CHOSEN.search(before) is not None
        named.append(_Named((match["within"] or match["bare"]).upper(), chosen, start, end))
    return named


def _has_other(text: str, end: int, letters: str) -> bool:
    """Whether another letter is named beside the one before `end`: "B or C", "B, C"."""
    other = _OTHER.match(text, end)
    if other is None or other[1] not in letters or _ARTICLE.match(text, other.start(1)):
        return False
    return not _REFUSED_AFTER.match(text, other.end()) and not (
        _COMMA.match(text, end) and _VERB_AFTER.match(text, other.end())
    )


def _one_of(letter: str, letters: str) -> str | None:
    return letter.upper() if letter.upper() in letters else None


def _plain(text: str) -> str:
    """`text` without what only sets it in type, one space where there were several."""
    return " ".join(_BRACES.sub("", _NOISE.sub("", unwrapped(text))).split())
