"""Which questions are a test's: the same question, a run of words in common, or nearly the same.

An :class:`Answerbook` is made once of all tests and is the same for every question, so what is contaminated depends
neither on the order of the sources nor on what else is collected. It is arrays of hashes, which workers share.

Each contaminated question comes with what it was found by: the test, its item and the words that both have. A shared
run is followed to its end, so that its length says what a larger n would still have dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.collect.near import FEWEST, bands, jaccard, shingles
from jobs.collect.normal import all_grams, grams, hashes, identity, words


@dataclass(frozen=True)
class HeldOut:
    """One question of a test."""

    test: str
    item: str
    question: str


@dataclass(frozen=True)
class Contamination:
    """What a question has in common with a test."""

    tested: int
    """Which of :attr:`Answerbook.tested`."""
    kind: str
    """``the same question``, ``8 words in a row``, or ``nearly the same``."""
    shared: str
    """The words that both have: the longest run, of those that are nearly the same the whole of the test's."""
    length: int
    """Words of it."""
    similarity: float
    """Of their shingles, 0 … 1."""


@dataclass(frozen=True)
class Answerbook:
    """All tests, as questions are compared with them."""

    tested: tuple[HeldOut, ...]
    ngram: int
    threshold: float | None
    """From which similarity a question is nearly a test's; None: not looked at."""
    identities: Mapping[str, int]
    words: NDArray[np.uint64]
    """Of all tests, one after the other."""
    starts: NDArray[np.int64]
    """[tests + 1]: where each one's words begin."""
    keys: NDArray[np.uint64]
    """The n-grams, ascending."""
    places: NDArray[np.int64]
    """Where in :attr:`words` each of them begins."""
    bands: NDArray[np.uint64]
    """[bands, tests]: each band's numbers, ascending."""
    of_bands: NDArray[np.int64]
    """[bands, tests]: the tests that they are of."""

    @classmethod
    def of(cls, tested: Sequence[HeldOut], ngram: int, threshold: float | None) -> Answerbook:
        """The tests, in an order of their own."""
        ordered = tuple(sorted(tested, key=lambda each: (each.test, each.item)))
        known: dict[str, int] = {}
        for number, each in enumerate(ordered):
            known.setdefault(identity(each.question), number)
        test_words = [hashes(words(each.question)) for each in ordered]
        starts = np.concatenate([[0], np.cumsum([len(each) for each in test_words])]).astype(np.int64)
        keys = [grams(each, ngram) for each in test_words]
        places = [start + np.arange(len(each), dtype=np.int64) for start, each in zip(starts, keys, strict=False)]
        flat, where = np.concatenate([*keys, np.empty(0, np.uint64)]), np.concatenate([*places, np.empty(0, np.int64)])
        order = np.lexsort((where, flat))
        columns = np.empty((0, len(test_words)), np.uint64)
        if threshold is not None and test_words:
            columns = bands(test_words, threshold).T
        by_band = np.argsort(columns, axis=1, kind="stable")
        return cls(
            *(ordered, ngram, threshold, known),
            words=np.concatenate([*test_words, np.empty(0, np.uint64)]),
            starts=starts,
            keys=flat[order],
            places=where[order].astype(np.int64),
            bands=np.take_along_axis(columns, by_band, axis=1),
            of_bands=by_band,
        )

    def find(
        self, questions: Sequence[Sequence[str]], hashed: Sequence[NDArray[np.uint64]], keys: Sequence[str]
    ) -> list[Contamination | None]:
        """What each question has of a test; given are their words, the hashes of these, and their identities."""
        contaminations: list[Contamination | None] = [None] * len(questions)
        sharing = self._sharing(hashed)
        for place, (split, numbers, key) in enumerate(zip(questions, hashed, keys, strict=True)):
            if (same := self.identities.get(key)) is not None:
                contaminations[place] = Contamination(same, "the same question", " ".join(split), len(split), 1.0)
            elif place in sharing and (run := self._longest(numbers)) is not None:
                start, length, where = run
                test = self._at(where)
                text, alike = " ".join(split[start : start + length]), jaccard(shingles(numbers), self._set(test))
                contaminations[place] = Contamination(test, f"{self.ngram} words in a row", text, length, alike)
        for place, tests in self._candidates(hashed).items():
            if contaminations[place] is None:
                contaminations[place] = self._alike(shingles(hashed[place]), tests)
        return contaminations

    def _sharing(self, hashed: Sequence[NDArray[np.uint64]]) -> set[int]:
        """The questions that have an n-gram of a test."""
        flat, starts = all_grams(hashed, self.ngram)
        if not len(self.keys):
            return set()
        near = np.minimum(np.searchsorted(self.keys, flat), len(self.keys) - 1)
        hits = np.flatnonzero(self.keys[near] == flat)
        return set((np.searchsorted(starts, hits, side="right") - 1).tolist())

    def _candidates(self, hashed: Sequence[NDArray[np.uint64]]) -> dict[int, set[int]]:
        """The questions that may be nearly a test's, and which these are."""
        tests_of: dict[int, set[int]] = {}
        if self.threshold is None or not self.tested:
            return tests_of
        question_bands = bands(hashed, self.threshold)
        for band, numbers in enumerate(self.bands):
            low = np.searchsorted(numbers, question_bands[:, band], side="left")
            high = np.searchsorted(numbers, question_bands[:, band], side="right")
            for place in np.flatnonzero(high > low).tolist():
                tests_of.setdefault(place, set()).update(self.of_bands[band, low[place] : high[place]].tolist())
        return {place: tests for place, tests in tests_of.items() if len(hashed[place]) >= FEWEST}

    def _at(self, place: int) -> int:
        """The test that has a word."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1

    def _longest(self, hashed: NDArray[np.uint64]) -> tuple[int, int, int] | None:
        """The longest run of words that a test has too: where it begins, its length, and where the test's begins."""
        keys = grams(hashed, self.ngram)
        low = np.searchsorted(self.keys, keys, side="left")
        hits = [at for at, place in enumerate(low) if place < len(self.keys) and self.keys[place] == keys[at]]
        best: tuple[int, int, int] | None = None
        for at in hits:
            if best is not None and at + self.ngram <= best[0] + best[1]:
                continue  # inside the longest so far
            high = int(np.searchsorted(self.keys, keys[at], side="right"))
            for place in self.places[low[at] : high]:
                length = self._extends(hashed, at, int(place))
                if best is None or length > best[1]:
                    best = (at, length, int(place))
        return best

    def _extends(self, hashed: NDArray[np.uint64], at: int, place: int) -> int:
        """How many words from `at` on are those of the test from `place` on."""
        end = int(self.starts[self._at(place) + 1])
        size = min(len(hashed) - at, end - place)
        differ = np.flatnonzero(hashed[at : at + size] != self.words[place : place + size])
        return int(differ[0]) if len(differ) else size

    def _set(self, number: int) -> NDArray[np.uint64]:
        return shingles(self.words[self.starts[number] : self.starts[number + 1]])

    def _alike(self, shingled: NDArray[np.uint64], tests: Iterable[int]) -> Contamination | None:
        similarity, least = max((jaccard(shingled, self._set(test)), -test) for test in tests)
        if self.threshold is None or similarity < self.threshold:
            return None
        text = words(self.tested[-least].question)
        return Contamination(-least, "nearly the same", " ".join(text), len(text), similarity)
