r"""The value in a sentence: ``16`` of "There are 16 letters in 3 words.", ``\frac{1}{2}`` of "The chance is $\frac12$."

What stands alone is taken whole. Of a sentence it is what follows the last verb that says so ("is", "equals",
"makes"), up to the first word that explains it ("because", "since"). A number that the words around it make another
("at least 5", "5 or more", "5 times", "not 5", "the square root of 16") is no value: None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jobs.evaluate.grading import units
from jobs.evaluate.grading.vocabulary import (
    APPROXIMATELY,
    CONCLUDES,
    DETERMINERS,
    EXPLAINS,
    FUNCTIONS,
    JOINTS,
    LABELS,
    NEGATES,
    SAYS,
    SPOILS_AFTER,
    SPOILS_BEFORE,
    SPOILS_OF,
)
from jobs.evaluate.grading.words import characters

LONGEST = 1000
"""Characters. A longer answer is not read: no gold answer comes near."""

_GLUE = "\ue000"
"""Stands for a space within an expression, while sentences are taken apart by their spaces."""
_ABOUT_EQUAL = re.compile(r"\\approx(?![A-Za-z])")
_ABOUT = re.compile(r"(?:(?<=\s)|^)(?:~|\\sim(?![A-Za-z])) ?(?=[\d.\\$])")
_DASH = re.compile(r"\s(?:\u2013|-)\s(?=[A-Za-z]{2,})|(?<=[\w)}.])\u2014")
_WORDS = "\\mathord"
"""Stands for ``\\text`` where that is all of an expression: ``$\\text{even}$``."""
_SPAN = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BOLD = re.compile(r"(\*\*|__)(?P<inside>[^*_]+)\1")
_MATRIX = re.compile(r"\\begin\{(\w+)\}.*?\\end\{\1\}", re.DOTALL)
_GROUP = re.compile(r"[(\[][^()\[\]{}]*[)\]]")
_BRACKETED = re.compile(r"[(\[][^()\[\]]*[)\]]")
_KEPT = str.maketrans("()[]", "\ue002\ue003\ue004\ue005")
_GIVEN_BACK = str.maketrans("\ue002\ue003\ue004\ue005", "()[]")
_BRACED = re.compile(r"\{[^{}]*\}")
_WRAPPED = re.compile(r"\\(?:text|mbox|hbox|textrm|mathrm|textbf|textit|mathbf)\s*\{([^{}]*)\}(?!\s*\^)")
_ASIDE = re.compile(r"(?<=\d) \([A-Za-z-]{3,}\)")
_OPTION = re.compile(r"^\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\([A-Z]\)\s*\}\s*(?:\\[ ,;:]|\\quad|~)?\s*(?=[^\s.])")
"""The letter of an option before its value: ``\\textbf{(A)}\\ 12``."""
_PLURAL = re.compile(r"(?<=[A-Za-z])\(s\)")
_PUNCTUATION = ".,;:!?\"'\u201c\u201d\u2018\u2019"
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")


_LETTERS = re.compile(
    r"(?<![A-Za-z])[A-Za-z][)}]? ?[-+*/^=] ?[({]?(?:[A-Za-z](?![A-Za-z])|\\)|\\[dt]?frac|\\sqrt|\\emptyset"
)
_ORDINARY = re.compile(r"\d+(?:st|nd|rd|th)|\d+-[A-Za-z]{2,}.*|[A-Za-z]{2,}-\d+")
"""Words that have digits in them: 5th, 3-digit, COVID-19."""
_CALCULATES = re.compile(r"[=+*/^<>|\u2264\u2265\u2248\u2260\u00b1]|\\[A-Za-z{]|\d")
_ODDS = re.compile(r"(?:\d{1,2}|1000*)(?: \.)?")
"""What "6 in" makes a share with."""
_DIFFERENCE = re.compile(r"(?:[A-Za-z]|\d+)(?:-(?:[A-Za-z]|\d+))+")
_SIGNED = re.compile(r"[-+](?:[A-Za-z(]|\\)")


@dataclass(frozen=True)
class _Part:
    """A word of a sentence, a mark of punctuation, or an expression."""

    text: str
    kind: str
    bold: bool = False

    @property
    def says(self) -> str:
        return self.text.casefold()


@lru_cache(maxsize=4096)
def value(text: str) -> str | None:
    """The value that a short answer has, as it stands there; the text where that is no sentence; None where none."""
    if len(text) > LONGEST:
        return None
    text = _OPTION.sub("", text.strip())
    exact, mark, _ = _ABOUT_EQUAL.sub("\u2248", text).partition("\u2248")
    if mark and re.search(r"\d", exact):
        return value(exact.strip().strip("$"))
    bare = _without_asides(text)
    parts = _parts(bare)
    if not _is_prose(parts):
        return bare
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
        return ", ".join(part.text for part in parts[at:end] if part.kind == "expression")
    return _with_unit(parts, at)


def sentences(text: str) -> Iterator[str]:
    """The sentences of `text`, each displayed expression with the words before it."""
    text = _SPAN.sub(lambda match: match[0].replace("\n", " "), text[-20 * LONGEST :])
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
    words = [word for word in _PROSE.findall(inside) if word.casefold() not in FUNCTIONS | JOINTS]
    return " " if words and " " in inside.strip() else match[0]


def _parts(text: str) -> list[_Part]:
    text = _SPAN.sub(_spanned, characters(_DASH.sub(" \u2014 ", _ABOUT.sub("\u2248 ", text))))
    bold = {match["inside"].strip().rstrip(".,:;") for match in _BOLD.finditer(text)}
    text = _BOLD.sub(lambda match: match["inside"], text)
    text = _WRAPPED.sub(_opened, text)
    text = _MATRIX.sub(lambda match: re.sub(r"\s+", _GLUE, match[0]), text)
    for _ in range(3):
        text = _BRACED.sub(lambda match: match[0].replace(" ", _GLUE), text)
    for _ in range(2):
        text = _BRACKETED.sub(lambda match: match[0].replace(" ", _GLUE).translate(_KEPT), text)
    text = text.translate(_GIVEN_BACK)
    pieces: list[_Part] = []
    for word in re.sub(r"\s*([\^_/])\s*", r"\1", text).replace("%", "% ").split():
        pieces += _of_word(word, bold)
    return list(_joined(pieces))


def _opened(match: re.Match[str]) -> str:
    inside = match[1].strip()
    if units.is_unit(inside) or not _PROSE.search(inside):
        return match[0].replace(" ", _GLUE)
    return f" {inside} "


def _spanned(match: re.Match[str]) -> str:
    inside = next(group for group in match.groups() if group is not None).strip()
    if (whole := _WRAPPED.fullmatch(inside)) and not units.is_unit(whole[1]):
        return f" {_WORDS}{{{whole[1].replace(' ', _GLUE)}}} "
    if not inside or _PROSE.search(_without_commands(inside)):
        return f" {inside} "
    return f" {re.sub(chr(92) + 's+', _GLUE, inside)} "


def _without_commands(text: str) -> str:
    """`text` without commands, environments and what stands in ``\\text{}``."""
    text = re.sub(r"\\(?:text|mbox|hbox|mathrm|textrm|operatorname)\s*\{[^{}]*\}|\\(?:begin|end)\{\w+\}", " ", text)
    return re.sub(r"\\[A-Za-z]+", " ", text) if not _all_functions(text) else " "


def _all_functions(text: str) -> bool:
    return all(word.casefold() in FUNCTIONS for word in _PROSE.findall(re.sub(r"\\[A-Za-z]+", " ", text)))


def _of_word(word: str, bold: set[str]) -> Iterator[_Part]:
    core = word.strip("\"'\u201c\u201d\u2018\u2019")
    tail = ""
    while core and core[-1] in _PUNCTUATION:
        if core[-1] == "!" and len(core) > 1 and (core[-2].isdigit() or core[-2] == ")"):
            break
        tail, core = core[-1] + tail, core[:-1]
    if core:
        text = core.replace(_GLUE, " ").replace(_WORDS, "\\text")
        yield _Part(text, _kind(core), text in bold)
    yield from (_Part(mark, "mark") for mark in tail if mark != '"')


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


def _joined(parts: Sequence[_Part]) -> Iterator[_Part]:
    """Expressions that only spaces part made one; articles words, unless they are among signs."""
    run: list[_Part] = []
    for at, part in enumerate(parts):
        if part.kind == "article":
            beside = [*parts[max(0, at - 1) : at], *parts[at + 1 : at + 2]]
            among = any(
                each.kind == "expression" and re.fullmatch(r"[-+*/=<>^]+|\\[a-z]+", each.text) for each in beside
            )
            part = _Part(part.text, "expression" if among else "word", part.bold)
        if part.kind == "expression":
            run.append(part)
            continue
        yield from _one(run)
        run = []
        yield part
    yield from _one(run)


def _one(run: Sequence[_Part]) -> Iterator[_Part]:
    """One expression of several; an equals sign that words follow is a verb."""
    bold = any(part.bold for part in run)
    text = " ".join(part.text for part in run)
    bare = re.sub(r"\s*[-+*/=]+$", "", text) if len(run) > 1 else text
    if bare:
        yield _Part(bare, "expression", bold)
    if text.endswith("=") and bare != text:
        yield _Part("=", "word")


def _is_prose(parts: Sequence[_Part]) -> bool:
    return any(part.kind == "word" and part.says not in JOINTS for part in parts)


def _word(parts: Sequence[_Part]) -> str | None:
    """What a sentence without a number says: the words after the last verb, if it has one."""
    words = [part for part in parts if part.kind == "word"]
    kept = _before_reasons(words)
    verbs = [at for at, part in enumerate(kept[:-1]) if part.says in SAYS]
    return " ".join(part.text for part in (kept[verbs[-1] + 1 :] if verbs else kept)) or None


def _last_verb(parts: Sequence[_Part]) -> int | None:
    return next((at for at in reversed(range(len(parts))) if parts[at].says in SAYS), None)


def _only_names(parts: Sequence[_Part]) -> bool:
    """Whether all expressions are names: "the number n is even"."""
    return all(re.fullmatch(r"[A-Za-z]", part.text) for part in parts if part.kind == "expression")


def _only_words(parts: Sequence[_Part]) -> bool:
    return any(part.kind == "word" for part in parts) and not any(_counts(part) for part in parts)


def _before_reasons(parts: Sequence[_Part]) -> Sequence[_Part]:
    for at, part in enumerate(parts):
        if at and part.kind == "word" and part.says in EXPLAINS and any(p.kind != "mark" for p in parts[:at]):
            return parts[:at]
    return parts


def _chosen(parts: Sequence[_Part]) -> int | None:
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


def _is_labelled(parts: Sequence[_Part], at: int) -> bool:
    """Whether the number at `at` counts something else, or names it: "of the 40", "on day 2"."""
    before = [part.says for part in parts[max(0, at - 2) : at]]
    return bool(before) and (before[-1] in LABELS or (before[0] in LABELS and before[-1] in DETERMINERS))


def _end_of_list(parts: Sequence[_Part], at: int) -> int:
    """Where a list of expressions that begins at `at` ends: after "3, 5 and 7"; one further for no list."""
    end = at + 1
    while end < len(parts):
        joint = end
        while joint < len(parts) and (parts[joint].says in JOINTS or parts[joint].text in ",;"):
            joint += 1
        if joint == end or joint == len(parts) or parts[joint].kind != "expression":
            break
        end = joint + 1
    return end


def _counts(part: _Part) -> bool:
    return part.kind == "expression" and not re.fullmatch(r"[-+*/=<>^%]+|\\(?!pi|infty|emptyset)[A-Za-z]+", part.text)


def _is_spoilt(parts: Sequence[_Part], at: int, end: int) -> bool:
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
    if at > 1 and parts[at - 1].says in JOINTS and parts[at - 2].kind == "expression":
        return True
    after = [part.says for part in parts[end : end + 3]]
    if (after[:1] and after[0] in SPOILS_AFTER) or [word for word in after if word != ","][:1] == ["or"]:
        return True
    if after[:2] in (["at", "most"], ["at", "least"]) or [part.says for part in parts].count("if") > 1:
        return True
    if after[:1] == ["is"] and after[1:2] and after[1] in ("wrong", "incorrect", "false", "not", "impossible"):
        return True
    if parts[at].text.endswith("%") and after[:1] == ["of"] and _counts(parts[min(end + 1, len(parts) - 1)]):
        return True
    if after[1:2] == ["than"] and after[0] in ("more", "less", "fewer", "higher", "lower", "greater", "smaller"):
        return True
    return _goes_on(parts, end)


def _goes_on(parts: Sequence[_Part], end: int) -> bool:
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


def _with_unit(parts: Sequence[_Part], at: int) -> str:
    """The expression with what it is measured in, where that is a unit known here."""
    text = parts[at].text
    for end in range(min(len(parts), at + 5), at + 1, -1):
        words = parts[at + 1 : end]
        named = " ".join(part.text for part in words)
        if all(part.kind != "mark" for part in words) and units.is_unit(named):
            return f"{text} {named}"
    return text
