"""What each of IFEval's instructions asks of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

Words = dict[str, Any]
"""The arguments of an instruction."""

_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")
_PLACEHOLDER = re.compile(r"\[[^\[\]]*\]")
_HIGHLIGHT = re.compile(r"\*\*([^\n*]+)\*\*|(?<!\*)\*([^\n*]+)\*(?!\*)")
_BULLET = re.compile(r"^\s*(?:\*(?!\*)|-)\s*\S", re.MULTILINE)
_TITLE = re.compile(r"<<([^\n<>]+)>>")
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$", re.IGNORECASE)
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


@dataclass(frozen=True)
class Rule:
    """One kind of instruction."""

    follows: Callable[[str, Words], bool]
    needs: tuple[str, ...] = ()


def why_not(name: str, arguments: Words) -> str | None:
    """Why an instruction cannot be checked, in words that go after it; None where it can."""
    missing = [each for each in RULES[name].needs if each not in arguments]
    if missing:
        return f"without {', '.join(missing)}"
    if name == "language:response_language" and find_spec("langdetect") is None:
        return "which takes langdetect: pip install langdetect"
    return None


def _compared(count: int, arguments: Words, number: str, relation: str = "relation") -> bool:
    """``at least`` so many, or ``less than`` so many; at least, where it is not said."""
    wanted = int(arguments[number])
    return count < wanted if arguments.get(relation) == "less than" else count >= wanted


def _has(word: str, text: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _parts(text: str, separator: str) -> list[str] | None:
    """What stands between separators: nothing may be blank but what is before the first, and after the last."""
    parts = re.split(separator, text)
    inner = [part for at, part in enumerate(parts) if part.strip() or at not in (0, len(parts) - 1)]
    return inner if all(part.strip() for part in inner) else None


def _paragraphs(text: str, arguments: Words) -> bool:
    parts = _parts(text, r"\s?\*\*\*\s?")
    return parts is not None and len(parts) == arguments["num_paragraphs"]


def _first_word(text: str, arguments: Words) -> bool:
    paragraphs = [part for part in re.split(r"\n\n", text) if part.strip()]
    nth = int(arguments["nth_paragraph"])
    if len(paragraphs) != arguments["num_paragraphs"] or not 0 < nth <= len(paragraphs):
        return False
    first = paragraphs[nth - 1].split()[0].lstrip("\"'")
    return re.split(r"[.,?!'\"]", first)[0].lower() == str(arguments["first_word"]).lower()


def _postscript(text: str, arguments: Words) -> bool:
    marker = str(arguments["postscript_marker"])
    spaced = r"\s*".join(re.escape(letter) for letter in marker if not letter.isspace())
    return re.search(rf"^\s*{spaced}", text, re.IGNORECASE | re.MULTILINE) is not None


def _sections(text: str, arguments: Words) -> bool:
    word = re.escape(str(arguments["section_spliter"]).strip())
    return len(re.findall(rf"\s?{word}\s?\d+\s?", text)) >= int(arguments["num_sections"])


def _is_json(text: str) -> bool:
    try:
        json.loads(_FENCE.sub("", text.strip()))
    except ValueError:
        return False
    return True


def _two(text: str) -> bool:
    parts = _parts(text, r"\*{6}")
    return parts is not None and len(parts) == 2 and parts[0].strip() != parts[1].strip()


def _language(text: str, arguments: Words) -> bool:
    import langdetect  # type: ignore[import-not-found, unused-ignore]

    langdetect.DetectorFactory.seed = 0
    try:
        found: str = langdetect.detect(text)
    except langdetect.LangDetectException:
        return True  # nothing but numbers and signs is in any language
    return found == arguments["language"]


def _letters(text: str, arguments: Words) -> bool:
    return _compared(text.lower().count(str(arguments["letter"]).lower()), arguments, "let_frequency", "let_relation")


def _capitals(text: str, arguments: Words) -> bool:
    count = sum(word.isupper() for word in re.findall(r"\w[\w'-]*", text))
    return _compared(count, arguments, "capital_frequency", "capital_relation")


def _highlights(text: str, arguments: Words) -> bool:
    marked = sum(bool((match[1] or match[2]).strip()) for match in _HIGHLIGHT.finditer(text))
    return marked >= int(arguments["num_highlights"])


def _quoted(text: str) -> bool:
    said = text.strip()
    return len(said) > 1 and said[0] == said[-1] == '"'


def _ends(text: str, arguments: Words) -> bool:
    return text.strip().strip('"').lower().endswith(str(arguments["end_phrase"]).strip().lower())


def _repeats(text: str, arguments: Words) -> bool:
    return text.strip().lower().startswith(str(arguments["prompt_to_repeat"]).strip().lower())


RULES: Mapping[str, Rule] = {
    "keywords:existence": Rule(lambda text, given: all(_has(word, text) for word in given["keywords"]), ("keywords",)),
    "keywords:frequency": Rule(
        lambda text, given: _compared(_has(given["keyword"], text), given, "frequency"), ("keyword", "frequency")
    ),
    "keywords:forbidden_words": Rule(
        lambda text, given: not any(_has(word, text) for word in given["forbidden_words"]), ("forbidden_words",)
    ),
    "keywords:letter_frequency": Rule(_letters, ("letter", "let_frequency")),
    "language:response_language": Rule(_language, ("language",)),
    "length_constraints:number_sentences": Rule(
        lambda text, given: _compared(len(_SENTENCE_END.findall(text)), given, "num_sentences"), ("num_sentences",)
    ),
    "length_constraints:number_paragraphs": Rule(_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": Rule(
        lambda text, given: _compared(len(_words(text)), given, "num_words"), ("num_words",)
    ),
    "length_constraints:nth_paragraph_first_word": Rule(_first_word, ("num_paragraphs", "nth_paragraph", "first_word")),
    "detectable_content:number_placeholders": Rule(
        lambda text, given: len(_PLACEHOLDER.findall(text)) >= int(given["num_placeholders"]), ("num_placeholders",)
    ),
    "detectable_content:postscript": Rule(_postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": Rule(
        lambda text, given: len(_BULLET.findall(text)) == int(given["num_bullets"]), ("num_bullets",)
    ),
    "detectable_format:constrained_response": Rule(lambda text, _: any(choice in text for choice in _CHOICES)),
    "detectable_format:number_highlighted_sections": Rule(_highlights, ("num_highlights",)),
    "detectable_format:multiple_sections": Rule(_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": Rule(lambda text, _: _is_json(text)),
    "detectable_format:title": Rule(lambda text, _: any(title.strip() for title in _TITLE.findall(text))),
    "combination:two_responses": Rule(lambda text, _: _two(text)),
    "combination:repeat_prompt": Rule(_repeats, ("prompt_to_repeat",)),
    "startend:end_checker": Rule(_ends, ("end_phrase",)),
    "startend:quotation": Rule(lambda text, _: _quoted(text)),
    "change_case:capital_word_frequency": Rule(_capitals, ("capital_frequency",)),
    "change_case:english_capital": Rule(lambda text, _: text.isupper()),
    "change_case:english_lowercase": Rule(lambda text, _: text.islower()),
    "punctuation:no_comma": Rule(lambda text, _: "," not in text),
}
"""By their names in ``instruction_id_list``."""
