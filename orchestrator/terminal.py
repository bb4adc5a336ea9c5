"""Text of users and models on a terminal: shown as it is, and never obeyed.

A terminal takes commands in what is written to it: to move the cursor, to set the window's title or the clipboard, to
write from right to left. A name, a log or an answer may have any of them in it. Whatever is said to people goes through
:func:`plain`; what has to be one line, for ``grep`` and for the eye, through :func:`one_line`.
"""

from __future__ import annotations

import re

_SEQUENCES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # titles, links, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours and cursor
    r"|\x1b[ -/]*[0-~]"  # the rest
)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BREAKS = re.compile("[\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` without terminal sequences and control characters, but for line ends and tabs."""
    return _SURROGATES.sub("\ufffd", _BREAKS.sub(" ", _CONTROLS.sub("", _SEQUENCES.sub("", text))))


def one_line(text: str, most: int) -> str:
    """`text` on one line, of at most so many characters: line ends as Python writes them."""
    whole = plain(text[: most + 1]).replace("\n", "\\n").replace("\t", " ")
    return whole if len(whole) <= most and len(text) <= most else f"{whole[: most - 1]}…"
