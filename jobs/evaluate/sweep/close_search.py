"""Finds where thinking ends in a stream of tokens, where no single token tells.

gpt-oss closes its analysis with ``<|end|>`` and may then begin another; only all of ``<|end|><|start|>assistant
<|channel|>final<|message|>`` ends thinking. OLMo 3 writes ``</think>`` as ordinary text, in which tokens may begin
before the tag and go on after it. So what is searched is text, in which each token of the vocabulary that the delimiter
needs is one character that no other token has: to write out ``<|end|>`` letter by letter closes nothing. Thinking is
the tokens before the one in which the first match begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_NOTHING = "\uffff"
"""Stands for tokens that are no part of the delimiter."""
_TOKENS = 0xF0000
"""The first of the characters, in Unicode's private use, that stand for tokens of the delimiter."""


@dataclass(frozen=True)
class Pattern:
    """A delimiter as it is searched for. Small: it travels to every replica."""

    text: str
    pieces: Mapping[int, str]
    """What the tokens stand for that may be part of it, or overlap it."""

    @cached_property
    def fallback(self) -> tuple[int, ...]:
        """By characters that match and one more that does not: how many of them still do (Knuth, Morris, Pratt)."""
        fallbacks = [0] * (len(self.text) + 1)
        matched = 0
        for at in range(1, len(self.text)):
            while matched and self.text[at] != self.text[matched]:
                matched = fallbacks[matched]
            matched += self.text[at] == self.text[matched]
            fallbacks[at + 1] = matched
        return tuple(fallbacks)


def pattern(tokenizer: Any, close: str) -> Pattern:
    """`close` as `tokenizer` may write it, in any tokens."""
    added = tokenizer.added_tokens_decoder
    added_pieces: dict[int, str] = {}
    text = ""
    for token in tokenizer.encode(close.strip(), add_special_tokens=False):
        if token in added:
            text += added_pieces.setdefault(token, chr(_TOKENS + len(added_pieces)))
        else:
            text += _written(tokenizer, token)
    text = text.strip()
    others = {
        token: piece
        for token in range(len(tokenizer))
        if token not in added and _overlaps(piece := _written(tokenizer, token), text)
    }
    return Pattern(text, added_pieces | others)


class Search:
    """Looks for a pattern in tokens that come bit by bit."""

    def __init__(self, pattern: Pattern):
        self._pattern = pattern
        self._origins: list[int] = []
        """Of the characters that match so far, the tokens that they are from."""
        self._seen = 0
        self.found: int | None = None
        """The token in which the first match begins, once it is complete."""

    @property
    def settled(self) -> int:
        """Tokens before which no match can begin any more."""
        return self._origins[0] if self._origins else self._seen

    def feed(self, tokens: Iterable[int]) -> None:
        """Goes on with `tokens`, up to the end of the first match."""
        text, origins = self._pattern.text, self._origins
        for token in tokens:
            for character in self._pattern.pieces.get(token, _NOTHING):
                while origins and text[len(origins)] != character:
                    del origins[: len(origins) - self._pattern.fallback[len(origins)]]
                if text[len(origins)] == character:
                    origins.append(self._seen)
                if len(origins) == len(text):
                    self.found = origins[0]
                    return
            self._seen += 1


def _written(tokenizer: Any, token: int) -> str:
    """The text of one token among others: decoded alone, it loses the space that some vocabularies begin words with."""
    text: str = tokenizer.decode([token])
    name = tokenizer.convert_ids_to_tokens(token)
    return f" {text}" if name and name.startswith("▁") and not text.startswith(" ") else text


def _overlaps(piece: str, text: str) -> bool:
    """Whether `piece` can be part of `text`, begin it, or end it."""
    if not piece or (text[0] not in piece and text[-1] not in piece and piece not in text):
        return False
    most = range(1, min(len(piece), len(text)) + 1)
    return piece in text or text in piece or any(text.startswith(piece[-n:]) or text.endswith(piece[:n]) for n in most)
