r"""The value in a sentence: ``16`` of "There are 16 letters in 3 words.", ``\frac{1}{2}`` of "The chance is $\frac12$."

What stands alone is taken whole. Of a sentence it is what follows the last verb that says so ("is", "equals",
"makes"), up to the first word that explains it ("because", "since"). A number that the words around it make another
("at least 5", "5 or more", "5 times", "not 5", "the square root of 16") is not a value: None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from jobs.evaluate.grading import units
from jobs.evaluate.grading.equations import concluded
from jobs.evaluate.grading.parts import PROSE, SPAN, SentencePart, parts_of
from jobs.evaluate.grading.vocabulary import (
    APPROXIMATELY,
    CONCLUDES,
    DETERMINERS,
    EXPLAINS,
    FOLLOWS_A_VALUE,
    FUNCTIONS,
    JOINTS,
    LABELS,
    NAMED,
    NEGATES,
    NUMBERS,
    PARTS,
    SAYS,
    SPOILS_AFTER,
    SPOILS_BEFORE,
    SPOILS_OF,
)

LONGEST = 1000
"""Characters. A longer answer is not read: no gold answer comes near."""

_ABOUT_EQUAL = re.compile(r"\\approx(?![A-Za-z])")
_GROUP = re.compile(r"[(\[][^()\[\]{}]*[)\]]")
_ASIDE = re.compile(
    r"(?<=\d) \([A-Za-z-]{3,}\)|(?<=\d)\s?(?:\\[ ,;:])?\\(?:text|mbox|mathrm)\s?\{\s?\([A-Za-z-]{2,}\)\s?\}"
)
_OPTION = re.compile(r"^\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\([A-Z]\)\s*\}\s*(?:\\[ ,;:]|\\quad|~)?\s*(?=[^\s.])")
"""The letter of an option before its value: ``\\textbf{(A)}\\ 12``."""
_PLURAL = re.compile(r"(?<=[A-Za-z])\(s\)")


_LETTERS = re.compile(
    r"(?<![A-Za-z])[A-Za-z][)}]? ?[-+*/^=] ?[({]?(?:[A-Za-z](?![A-Za-z])|\\)|\\[dt]?frac|\\sqrt|\\emptyset"
)
_SHARE = re.compile(r"%$|^\d+/\d+$|^\\[dt]?frac\{\d+\}\{\d+\}$")
"""Of a number it is another number: "3/4 of 8"."""
_ODDS = re.compile(r"(?:\d{1,2}|1000*)(?: \.)?")
"""What "6 in" makes a share with."""


@lru_cache(maxsize=4096)
def value(text: str) -> str | None:
    """The value that a short answer has, as it stands there; the text where that is not a sentence; None where none."""
    if len(text) > LONGEST:
        return None
    text = _OPTION.sub("", text.strip())
    exact, mark, _ = _ABOUT_EQUAL.sub("\u2248", text).partition("\u2248")
    if mark and re.search(r"\d", exact):
        return value(exact.strip().strip("$"))
    bare = _without_asides(text)
    parts = parts_of(bare)
    if not _is_prose(parts):
        return concluded(bare)
    expressions = [part for part in parts if part.kind == "expression"]
    if not expressions:
        return _word(parts)
    if (last := _last_verb(parts)) is not None and _only_names(parts[:last]) and _only_words(parts[last + 1 :]):
        return _word(parts)
    bold = [at for at, part in enumerate(parts) if part.bold and part.kind == "expression"]
    at = bold[0] if len(bold) == 1 else _chosen(parts)
    if at is None:
        return None
    end = _end_of_list(parts, at)
    if _is_spoilt(parts, at, end):
        return None
    if end > at + 1:
        return concluded(", ".join(part.text for part in parts[at:end] if part.kind == "expression"))
    return _with_unit(parts, at)


def sentences(text: str) -> Iterator[str]:
    """The sentences of `text`, each displayed expression with the words before it."""
    text = SPAN.sub(lambda match: match[0].replace("\n", " "), text[-20 * LONGEST :])
    text = re.sub(r"[ \t]{2,}", " ", text)
    for line in text.split("\n"):
        for sentence in re.split(r"(?<=[.!?]) (?=[^a-z\d\s])|(?<=[.!?]\*\*) ", line):
            if sentence.strip():
                yield sentence.strip()


def has_value(sentence: str) -> bool:
    """Whether `sentence` has a number in it, or π or ∞."""
    return bool(re.search(r"[0-9\u00bd\u00bc\u00be\u2153\u2154\u03c0]|\\pi|\\infty|\bpi\b", sentence))


def has_expression(sentence: str) -> bool:
    """Whether `sentence` has mathematics in it, if only of letters: ``$x+y$``."""
    return has_value(sentence) or _LETTERS.search(sentence) is not None


def listed(text: str) -> list[str]:
    """The parts of a list, ``1, -2`` or ``1 and -2``; commas within brackets are no list's."""
    members, depth, start = [], 0, 0
    if "\\begin" in text:
        return [text]
    text = re.sub(r"\s+(?:and|or|&)\s+", ", ", text.replace("\\text{and}", "and").replace("\\text{or}", "or"))
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if not depth and letter in ",;" and not re.match(r"\d{3}(?!\d)", text[at + 1 :]):
            members.append(text[start:at])
            start = at + 1
    members.append(text[start:])
    return [part.strip() for part in members if part.strip()]


def _without_asides(text: str) -> str:
    """`text` without words in brackets: "42 (that is 6 times 7)"."""
    return _GROUP.sub(_said, _ASIDE.sub(" ", _PLURAL.sub("s", text))).strip()


def _said(match: re.Match[str]) -> str:
    inside = match[0][1:-1]
    words = [word for word in PROSE.findall(inside) if word.casefold() not in FUNCTIONS | JOINTS]
    return " " if words and " " in inside.strip() else match[0]


def _is_prose(parts: Sequence[SentencePart]) -> bool:
    return any(part.kind == "word" and part.says not in JOINTS for part in parts)


def _word(parts: Sequence[SentencePart]) -> str | None:
    """What a sentence without a number says: the words after the last verb, if it has one."""
    words = [part for part in parts if part.kind == "word"]
    kept = _before_reasons(words)
    verbs = [at for at, part in enumerate(kept[:-1]) if part.says in SAYS]
    return " ".join(part.text for part in (kept[verbs[-1] + 1 :] if verbs else kept)) or None


def _last_verb(parts: Sequence[SentencePart]) -> int | None:
    return next((at for at in reversed(range(len(parts))) if parts[at].says in SAYS), None)


def _only_names(parts: Sequence[SentencePart]) -> bool:
    """Whether all expressions are names: "the number n is even"."""
    return all(re.fullmatch(r"[A-Za-z]", part.text) for part in parts if part.kind == "expression")


def _only_words(parts: Sequence[SentencePart]) -> bool:
    return any(part.kind == "word" for part in parts) and not any(_counts(part) for part in parts)


def _before_reasons(parts: Sequence[SentencePart]) -> Sequence[SentencePart]:
    for at, part in enumerate(parts):
        if at and part.kind == "word" and part.says in EXPLAINS and any(p.kind != "mark" for p in parts[:at]):
            return parts[:at]
    return parts


def _chosen(parts: Sequence[SentencePart]) -> int | None:
    """The place of the expression that a sentence is about."""
    start = max((at + 1 for at, part in enumerate(parts) if part.says in CONCLUDES), default=0)
    if start and any(_counts(part) for part in parts[start:]):
        chosen = _chosen(parts[start:])
        return None if chosen is None else start + chosen
    claim = _before_reasons(parts)
    if not any(_counts(part) for part in claim):
        claim = parts
    places = [at for at, part in enumerate(claim) if _counts(part)]
    if not places:
        return None
    places = [at for at in places if not _is_labelled(claim, at)] or places
    verbs = [at for at, part in enumerate(claim[: places[-1]]) if part.says in SAYS]
    if verbs:
        return next(at for at in places if at > verbs[-1])
    return places[0] if not any(part.kind == "word" for part in claim[: places[0]]) else places[-1]


def _is_labelled(parts: Sequence[SentencePart], at: int) -> bool:
    """Whether the number at `at` counts something else, or names it: "of the 40", "on day 2"."""
    before = [part.says for part in parts[max(0, at - 2) : at]]
    return bool(before) and (before[-1] in LABELS or (before[0] in LABELS and before[-1] in DETERMINERS))


def _end_of_list(parts: Sequence[SentencePart], at: int) -> int:
    """Where a list of expressions that begins at `at` ends: after "3, 5 and 7"; one further for no list."""
    end = at + 1
    while end < len(parts):
        joint = end
        while joint < len(parts) and (parts[joint].says in JOINTS or parts[joint].text in ",;"):
            joint += 1
        if joint == end or joint == len(parts) or parts[joint].kind != "expression":
            break
        if parts[end].text == "," and _begins_a_clause(parts, joint):
            break
        end = joint + 1
    return end


def _begins_a_clause(parts: Sequence[SentencePart], at: int) -> bool:
    """Whether a name is the subject of what follows: "x = 15, y is irrelevant"."""
    following = parts[at + 1 : at + 2]
    joined = parts[at - 1].says in JOINTS
    name = re.fullmatch(r"[A-Za-z](?:_\w)?", parts[at].text) is not None
    return name and not joined and bool(following) and following[0].kind == "word" and following[0].says not in JOINTS


def _counts(part: SentencePart) -> bool:
    return part.kind == "expression" and not re.fullmatch(r"[-+*/=<>^%]+|\\(?!pi|infty|emptyset)[A-Za-z]+", part.text)


def _is_spoilt(parts: Sequence[SentencePart], at: int, end: int) -> bool:
    """Whether the words around the expressions from `at` to `end` make them say something else."""
    words = [part for part in parts[:at] if part.kind != "mark"]
    near = words[-3:]
    clause = near
    for place, part in enumerate(near):
        if part.kind == "expression" or part.says in SAYS:
            clause = near[place + 1 :]
    if any(part.says in NEGATES or part.says.endswith(("n't", "n\u2019t")) for part in near):
        return True
    exact = "." in parts[at].text
    for word in (part.says for part in clause):
        if word in SPOILS_BEFORE or (word in APPROXIMATELY and not exact):
            return True
    last = [part.says for part in words[-4:]]
    if last[-1:] == ["of"] and any(word in SPOILS_OF for word in last):
        return True
    if last[-2:] in (["up", "to"], ["one", "of"]) and last[-3:-2] not in (["add"], ["adds"], ["sum"], ["sums"]):
        return True
    if last[-1:] in (["to"], ["through"]) and words[-2:-1] and words[-2].kind == "expression":
        return True
    if (
        at > 1
        and parts[at - 1].says in JOINTS
        and (parts[at - 2].kind == "expression" or parts[at - 2].says in NUMBERS)
    ):
        return True
    after = [part.says for part in parts[end : end + 3]]
    if (after[:1] and after[0] in SPOILS_AFTER) or [word for word in after if word != ","][:1] == ["or"]:
        return True
    if (
        last[-1:]
        and last[-1] in NAMED
        and after
        and after[0][0].isalpha()
        and after[0] not in FOLLOWS_A_VALUE | SAYS | EXPLAINS
    ):
        return True
    if len(parts) == 2 and last[-1:] and last[-1] in NAMED:
        return True
    if after[1:2] == ["of"] and after[0] in PARTS:
        return True
    if after[:2] in (["at", "most"], ["at", "least"]) or [part.says for part in parts].count("if") > 1:
        return True
    if after[:1] == ["is"] and after[1:2] and after[1] in ("wrong", "incorrect", "false", "not", "impossible"):
        return True
    if _SHARE.search(parts[at].text) and after[:1] == ["of"] and _counts(parts[min(end + 1, len(parts) - 1)]):
        return True
    if after[1:2] == ["than"] and after[0] in ("more", "less", "fewer", "higher", "lower", "greater", "smaller"):
        return True
    return _goes_on(parts, end)


def _goes_on(parts: Sequence[SentencePart], end: int) -> bool:
    """Whether the sentence has another value beside this one: "5 apples and 3 pears", "5 and a half", "5 out of 6"."""
    for place in range(end, len(parts)):
        part = parts[place]
        if part.kind == "word" and part.says in EXPLAINS:
            return False
        follows = parts[place + 1 : place + 3]
        if part.says in ("and", "plus", "minus", "or"):
            return any(
                each.kind == "expression" or each.says in ("half", "third", "quarter", "more") for each in follows
            )
        if part.says == "out" and len(follows) == 2 and follows[0].says == "of" and follows[1].kind == "expression":
            return True
        if part.says == "in" and place == end and _ODDS.fullmatch(" ".join(each.text for each in parts[place + 1 :])):
            return True
    return False


def _with_unit(parts: Sequence[SentencePart], at: int) -> str:
    """The expression with what it is measured in, where that is a unit known here."""
    text = parts[at].text
    for end in range(min(len(parts), at + 5), at + 1, -1):
        words = parts[at + 1 : end]
        named = " ".join(part.text for part in words)
        if all(part.kind != "mark" for part in words) and units.is_unit(named):
            return f"{text} {named}"
    return text
