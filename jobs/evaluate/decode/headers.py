"""Where the steps of thinking begin, in models trained to write a header before each."""

from __future__ import annotations

from collections.abc import Sequence


class Headers:
    """Finds the headers in a sequence of tokens that grows. They do not overlap; the earliest counts."""

    def __init__(self, header: Sequence[int], searched: int):
        """`header` is one token at least; `searched` is the end of the last one that is known already, or 0."""
        self._header = list(header)
        self._searched = searched

    def fresh(self, tokens: Sequence[int]) -> list[int]:
        """Where in `tokens` those begin that have become whole since the last call."""
        starts = []
        size = len(self._header)
        while self._searched + size <= len(tokens):
            if list(tokens[self._searched : self._searched + size]) == self._header:
                starts.append(self._searched)
                self._searched += size
            else:
                self._searched += 1
        return starts
