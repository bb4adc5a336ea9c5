"""What the text of a sequence of tokens says, as bytes, one token at a time.

A string that is looked for in what a model writes may lie across tokens, and a token may end inside a character. So the
text is a sequence of bytes, to which each token adds its own, whatever stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def token_bytes(tokenizer: Any) -> tuple[bytes, ...]:
    """The bytes that each id of a tokenizer's vocabulary adds to a text."""
    added = {number: str(token).encode() for number, token in tokenizer.added_tokens_decoder.items()}
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    by_bytes = _is_by_bytes(tokenizer)
    return tuple(added.get(number) or _bytes(name or "", by_bytes) for number, name in enumerate(names))


def _is_by_bytes(tokenizer: Any) -> bool:
    """Whether tokens are written in the alphabet of GPT-2, a letter for each byte; else as text, ``▁`` for a space."""
    space, newline = "Ġ", "Ċ"
    known = tokenizer.get_vocab()
    return space in known or newline in known


def _bytes(name: str, by_bytes: bool) -> bytes:
    if by_bytes:
        alphabet = _alphabet()
        return b"".join(alphabet.get(letter, letter.encode()) for letter in name)
    if byte := _BYTE.fullmatch(name):
        return bytes([int(byte[1], 16)])
    return name.replace("▁", " ").encode()


@cache
def _alphabet() -> dict[str, bytes]:
    """GPT-2's: printable bytes are themselves, and the others the letters from 256 on, in their order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): bytes([byte]) for byte in printable} | {
        chr(256 + number): bytes([byte]) for number, byte in enumerate(others)
    }


class Finder:
    """Looks for some strings in a text that grows token by token."""

    def __init__(self, strings: Iterable[str], pieces: Sequence[bytes], times: int = 1):
        """`times`: how many tokens complete one of them before it is found."""
        self._left = times
        self._strings = [string.encode() for string in strings]
        self._pieces = pieces
        self._kept = max(map(len, self._strings)) - 1
        self._tail = b""
        self.searched = 0
        """Tokens in which they were looked for."""

    def completes(self, token: int) -> bool:
        """Whether one of the strings would end in `token`, were it the next."""
        piece = self._piece(token)
        text = self._tail + piece
        return any(text.find(string, max(0, len(self._tail) - len(string) + 1)) >= 0 for string in self._strings)

    def add(self, token: int) -> bool:
        """Takes the next token. Returns whether one of the strings ends in it, for the so many-th time at least."""
        completed = self.completes(token)
        self._left -= completed
        text = self._tail + self._piece(token)
        self._tail = text[-self._kept :] if self._kept else b""
        self.searched += 1
        return completed and self._left <= 0

    def _piece(self, token: int) -> bytes:
        return self._pieces[token] if token < len(self._pieces) else b""
