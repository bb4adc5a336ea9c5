"""Where a search may branch: how thinking is cut into steps, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass

HEADER = "header"
"""Stands for the header that a model was trained to write before each step."""


@dataclass(frozen=True)
class Steps:
    """A step ends with a string or a header, which is its last, or after so many tokens; thinking, after so many steps.

    Each step is decoded whole or not at all, so what it says does not depend on how many there may be.
    """

    at: str | None
    """What ends a step: text, or :data:`HEADER`; None: its tokens alone."""
    tokens: int
    """Of a step, at most."""
    most: int
    """Steps of a trace. Thinking that has not ended by then is cut, and made to answer."""

    @property
    def identity(self) -> tuple[str | None, int]:
        """What of it determines the tokens of a step."""
        return self.at, self.tokens
