"""Counting letters: pseudo-words, the reasoning traces that a model learns from, and the held-out questions.

A trace walks the word letter by letter, with a running count of the target letter after each. What it finds depends on
*how* it looks, which is what makes test-time scaling visible on a model of half a million parameters:

- the first pass *skims*: a doubled target letter counts once, the mistake that people and models make in "raspberry";
- "Wait" starts a *careful* pass, which counts every one;
- "Hmm" starts another skim, and finds what the first one found;
- "Alternatively" lists the target letters alone, without walking the word.

Most traces end after the skim, so a model left to itself is wrong on most words with a doubled letter; made to go on
with "Wait", it is right. Traces never go beyond :data:`MOST_PASSES`, so thinking that is prolonged more often than
that leaves what was learned. Letters are not separated by spaces: a small model then learns to copy them several times
faster.

Training and test words are disjoint by construction: a hash of the word says which side it is on, so no choice of
seeds and sizes can leak a test word into training.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

VOWELS = "aeiou"
CONSONANTS = "bcdfghklmnprstvz"
SHORTEST, LONGEST = 5, 9
"""Letters of a word."""
DOUBLED_SHARE = 0.55
"""Words in which the target letter stands doubled: those that a skim gets wrong."""

END_SHARE = (0.55, 0.8)
"""The share of traces that end after the first pass, and after the second; the third is the last."""
MOST_PASSES = len(END_SHARE) + 1
OPENERS = {"Wait": 0.6, "Hmm": 0.2, "Alternatively": 0.2}
"""What a further pass opens with, and how often. "Wait" is the likeliest: it follows when nothing is appended."""

_HELD_OUT_OF = 8
"""One word in this many is a test word."""


@dataclass(frozen=True)
class LettersQuestion:
    """A word and the letter to count in it."""

    word: str
    letter: str

    @property
    def id(self) -> str:
        return f"{self.word}-{self.letter}"

    @property
    def text(self) -> str:
        return f"How many {self.letter} in {self.word}?"

    @property
    def answer(self) -> str:
        return str(self.word.count(self.letter))


@dataclass(frozen=True)
class LettersTrace:
    """What a reasoner wrote before its answer, and the answer it came to (which skimming gets wrong)."""

    text: str
    answer: str


def is_held_out(word: str) -> bool:
    """Whether `word` is a test word. A property of the word alone."""
    return hashlib.blake2b(word.encode(), digest_size=8).digest()[-1] % _HELD_OUT_OF == 0


def training(count: int, seed: int) -> Iterator[tuple[LettersQuestion, LettersTrace]]:
    """`count` questions with their traces. Words may come up again, with another trace."""
    rng = random.Random(f"letters-training-{seed}")
    for _ in range(count):
        question = _question(rng, held_out=False)
        yield question, _trace(rng, question)


GOOD, BAD = "+", "-"
"""What a labelled trace is answered with."""
SPOILT = 0.25
"""Share of the passes of labelled traces that have a mistake which no pass is taught: such as a small model makes."""


def labelled(count: int, seed: int) -> Iterator[tuple[LettersQuestion, LettersTrace]]:
    """`count` questions with traces as far as some pass, answered with whether that pass counted right.

    The label is exact: it compares what the pass came to with the word.
    """
    rng = random.Random(f"letters-labelled-{seed}")
    for _ in range(count):
        question = _question(rng, held_out=False)
        lines: list[str] = []
        for number in range(rng.randint(1, MOST_PASSES)):
            opener = rng.choices(list(OPENERS), weights=list(OPENERS.values()))[0] if number else "Hmm"
            latest = _PASSES[opener](question)
            if rng.random() < SPOILT and opener != "Alternatively":
                latest = _spoilt(rng, question)
            lines.append((opener if number else "") + latest.text)
        yield question, LettersTrace("\n".join(lines), GOOD if latest.answer == question.answer else BAD)


def held_out(count: int, seed: int) -> list[LettersQuestion]:
    """`count` distinct questions about test words: the same for the same arguments, wherever they are asked."""
    rng = random.Random(f"letters-test-{seed}")
    questions: dict[str, LettersQuestion] = {}
    while len(questions) < count:
        question = _question(rng, held_out=True)
        questions.setdefault(question.id, question)
    return list(questions.values())


def skim(question: LettersQuestion) -> LettersTrace:
    """The word letter by letter with a running count, a doubled target letter counted once: ``r1a1s1...``."""
    return _walk(question, [_starts_a_run(question, at) for at in range(len(question.word))])


def careful(question: LettersQuestion) -> LettersTrace:
    """The word letter by letter with a running count of every target letter."""
    return _walk(question, [letter == question.letter for letter in question.word])


def listing(question: LettersQuestion) -> LettersTrace:
    """The target letters alone, numbered: ``r1r2r3``."""
    count = question.word.count(question.letter)
    return LettersTrace("".join(f"{question.letter}{number}" for number in range(1, count + 1)), str(count))


_PASSES = {"Wait": careful, "Hmm": skim, "Alternatively": listing}


def _walk(question: LettersQuestion, counted: list[bool]) -> LettersTrace:
    count, text = 0, ""
    for letter, counts in zip(question.word, counted, strict=True):
        count += counts
        text += f"{letter}{count}"
    return LettersTrace(text, str(count))


def _spoilt(rng: random.Random, question: LettersQuestion) -> LettersTrace:
    """A pass that counts one letter that it should not, or does not count one that it should."""
    counted = [letter == question.letter for letter in question.word]
    at = rng.randrange(len(counted))
    counted[at] = not counted[at]
    return _walk(question, counted)


def _starts_a_run(question: LettersQuestion, at: int) -> bool:
    before = question.word[at - 1] if at else ""
    return question.word[at] == question.letter != before


def _question(rng: random.Random, *, held_out: bool) -> LettersQuestion:
    while True:
        letter = rng.choice(CONSONANTS)
        word = _word(rng, letter, doubled=rng.random() < DOUBLED_SHARE)
        if is_held_out(word) == held_out:
            return LettersQuestion(word, letter)


def _word(rng: random.Random, letter: str, *, doubled: bool) -> str:
    """Syllables of a consonant and a vowel, in which `letter` stands one to three times, once doubled if `doubled`."""
    length = rng.randint(SHORTEST, LONGEST) - doubled
    starts_with_vowel = rng.random() < 0.3
    others = CONSONANTS.replace(letter, "")
    word = [rng.choice(VOWELS if at % 2 != starts_with_vowel else others) for at in range(length)]
    consonants = [at for at in range(length) if at % 2 == starts_with_vowel]
    chosen = rng.sample(consonants, min(rng.choice((1, 1, 2, 2, 3)), len(consonants)))
    for at in chosen:
        word[at] = letter
    if doubled:
        word[chosen[0]] = letter * 2
    return "".join(word)


def _trace(rng: random.Random, question: LettersQuestion) -> LettersTrace:
    latest = skim(question)
    lines = [latest.text]
    for end_share in END_SHARE:
        if rng.random() < end_share:
            break
        opener = rng.choices(list(OPENERS), weights=list(OPENERS.values()))[0]
        latest = _PASSES[opener](question)
        lines.append(opener + latest.text)
    return LettersTrace("\n".join(lines), latest.answer)
