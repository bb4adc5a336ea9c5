r"""What sets text in type and says nothing: ``\text{}``, ``\mathbf{}`` and their kin."""

from __future__ import annotations

import re

_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname|boldsymbol|bf)"
    r"\s*\{([^{}]*)\}"
)
_WRAPPERS = 4
"""How many of them are taken away around each other."""


def unwrapped(text: str) -> str:
    """`text` without what wraps parts of it, those parts kept."""
    for _ in range(_WRAPPERS):
        text = _WRAPPER.sub(r"\1", text)
    return text
