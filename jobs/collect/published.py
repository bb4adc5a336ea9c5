"""The s1 paper's decontamination, as its code does it: to compare with, not to use.

Words are what spaces separate, in lower case. A question that has `ngram` of them in a row in common with a test is
dropped. What a source keeps is then held against the sources after it like a test, so which of two questions stays
depends on the order of the sources, and a question of fewer than `ngram` words is never found.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.collect.contamination import HeldOut
from jobs.collect.normal import grams, hashes


class PublishedProcedure:
    """The state of the procedure, as sources are put through it one after the other."""

    def __init__(self, tested: Iterable[HeldOut], ngram: int):
        self._ngram = ngram
        self._known: dict[int, tuple[str, str]] = {}
        for each in sorted(tested, key=lambda each: (each.test, each.item)):
            self._add(each.question, each.test, each.item)

    def keeps(self, source: str, questions: Iterable[tuple[str, str]]) -> list[tuple[str, str, str] | None]:
        """Of each of a source's (id, question): None where it is kept; else whose words it has, which item's, and the
        words."""
        asked = list(questions)
        shared = [self._shared(question) for _, question in asked]
        for (row, question), taken in zip(asked, shared, strict=True):
            if taken is None:
                self._add(question, source, row)
        return shared

    def _shared(self, question: str) -> tuple[str, str, str] | None:
        split = question.lower().split()
        for at, gram in enumerate(grams(hashes(split), self._ngram).tolist()):
            if (where := self._known.get(gram)) is not None:
                return (*where, " ".join(split[at : at + self._ngram]))
        return None

    def _add(self, question: str, whose: str, item: str) -> None:
        for gram in grams(hashes(question.lower().split()), self._ngram).tolist():
            self._known.setdefault(gram, (whose, item))
