"""Planted test questions are found however they are written, and unrelated ones are not."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.collect.contamination import Answerbook, Contamination, HeldOut
from jobs.collect.near import bands, candidates, groups, jaccard, minhash, rows_per_band, shingles
from jobs.collect.normal import grams, hashes, identity, words
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"


def lines(name: str, column: str) -> list[str]:
    return [json.loads(line)[column] for line in (DATA / name).read_text().splitlines()]


def find(book: Answerbook, question: str) -> Contamination | None:
    own = words(question)
    return book.find([own], [hashes(own)], [identity(question)])[0]


def spaced(text: str, rng: random.Random) -> str:
    """Spaces around operators and more of them between words; some become line ends."""
    text = re.sub(
        r"(?<![\\^_])([+=<>,])(?!\\)", lambda match: f" {match[1]} " if rng.random() < 0.5 else match[1], text
    )
    return re.sub(r" +", lambda match: rng.choice([" ", "  ", "\n", "\t"]), f" {text} ")


def other_latex(text: str, rng: random.Random) -> str:
    """The same mathematics, typed by someone else."""
    for ours, theirs in (
        *(
            (r"\dfrac", r"\frac"),
            (r"\frac", r"\tfrac"),
            (r"\left", ""),
            (r"\right", ""),
            (r"\le ", r"\leq "),
            (r"\!", ""),
        ),
        *((r"\ge ", r"\geqslant "), (r"\cdot", "⋅"), (r"\pi", "π"), (r"\theta", "θ"), (r"\times", "×"), (r"\,", " ")),
        *((r"\dots", r"\ldots"), (r"\text", r"\mathrm"), (r"\[", "$$"), (r"\]", "$$"), (r"\%", "%"), ("'", "’")),
    ):
        text = text.replace(ours, theirs)
    text = re.sub(r"\^(\d)(?!\d)", r"^{\1}", text)
    return re.sub(r"(?<!\$)\$(?!\$)([^$]+)\$", r"\\(\1\\)", text)


WAYS: dict[str, Callable[[str, random.Random], str]] = {
    "exact": lambda text, rng: text,
    "upper case": lambda text, rng: text if "\\" in text else text.upper(),
    "spacing": spaced,
    "LaTeX": other_latex,
    "all of it, within another text": lambda text, rng: (
        f"Solve this:\n{spaced(other_latex(text, rng), rng)}\nGood luck!"
    ),
}


@pytest.fixture(scope="module")
def book() -> Answerbook:
    tested = [HeldOut("math500", str(number), each) for number, each in enumerate(lines("math500.jsonl", "problem"))]
    tested += [HeldOut("aime24", str(number), each) for number, each in enumerate(lines("aime24.json", "problem"))]
    tested += [HeldOut("gsm8k", str(number), each) for number, each in enumerate(lines("gsm8k_test.jsonl", "question"))]
    return Answerbook.of(tested, 8, 0.8)


@pytest.mark.seconds
@pytest.mark.parametrize("way", WAYS)
def test_planted_questions_are_found(book: Answerbook, way: str) -> None:
    rng = random.Random(0)
    planted = [each for each in book.tested if len(words(each.question)) >= 8 or "within" not in way]
    found = [find(book, WAYS[way](each.question, rng)) for each in planted]
    recall = sum(each is not None for each in found) / len(planted)
    assert recall == 1 if way == "exact" else recall >= 0.99, [
        each.question for each, hit in zip(planted, found, strict=True) if hit is None
    ]
    right = sum(
        hit is not None and book.tested[hit.tested].question == each.question
        for each, hit in zip(planted, found, strict=True)
    )
    assert right / len(planted) >= 0.98


@pytest.mark.seconds
@pytest.mark.parametrize(("ours", "theirs"), [("math500", "gsm8k"), ("gsm8k", "math500")])
def test_unrelated_questions_are_not(ours: str, theirs: str) -> None:
    files = {
        "math500": [("math500.jsonl", "problem")],
        "gsm8k": [("gsm8k_train.jsonl", "question"), ("gsm8k_test.jsonl", "question")],
    }
    tested = [HeldOut(theirs, str(number), each) for file in files[theirs] for number, each in enumerate(lines(*file))]
    against = Answerbook.of(tested, 8, 0.8)
    questions = [each for file in files[ours] for each in lines(*file)]
    own = [words(each) for each in questions]
    found = against.find(own, [hashes(each) for each in own], [identity(each) for each in questions])
    taken = [each for each, hit in zip(questions, found, strict=True) if hit is not None]
    assert len(taken) / len(questions) <= 0.005, taken


def test_the_longest_run_is_shown_and_not_the_first(book: Answerbook) -> None:
    (first, second) = (each.question for each in book.tested[600:602])
    part, whole = " ".join(first.split()[:12]), second
    hit = find(book, f"{part}. Apart from that: {whole}")
    assert hit is not None
    assert book.tested[hit.tested].question == second
    assert hit.shared == " ".join(words(second))
    assert hit.length == len(words(second))


def test_the_book_does_not_depend_on_the_order_of_the_tests() -> None:
    tested = [HeldOut("t", str(number), each) for number, each in enumerate(lines("math500.jsonl", "problem")[:60])]
    books = [Answerbook.of(order, 8, 0.8) for order in (tested, tested[::-1])]
    for each in tested:
        assert find(books[0], each.question) == find(books[1], each.question)


texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=14)


@given(st.lists(texts, min_size=1, max_size=5), texts, st.integers(3, 5))
def test_runs_are_those_that_comparing_all_with_all_finds(
    tests: list[list[str]], question: list[str], size: int
) -> None:
    book = Answerbook.of([HeldOut("t", str(place), " ".join(own)) for place, own in enumerate(tests)], size, None)
    longest = 0
    for own in tests:
        for start in range(len(question)):
            for length in range(len(question) - start, longest, -1):
                part = question[start : start + length]
                if any(own[at : at + length] == part for at in range(len(own) - length + 1)):
                    longest = length
                    break
    (hit,) = book.find([question], [hashes(question)], ["not the same"])
    assert (hit.length if hit else 0) == (longest if longest >= size else 0)


sets = st.lists(st.integers(0, 40), min_size=6, max_size=40).map(lambda each: [f"w{number}" for number in each])


@given(st.lists(sets, min_size=2, max_size=12))
def test_candidates_have_all_pairs_that_are_the_same_and_nothing_twice(several: list[list[str]]) -> None:
    asked = [hashes(each) for each in [*several, *several[:2]]]
    own = [shingles(each) for each in asked]
    pairs = {tuple(pair) for pair in candidates(bands(asked, 0.8)).tolist()}
    for one in range(len(own)):
        for other in range(one + 1, len(own)):
            if jaccard(own[one], own[other]) == 1:
                assert (one, other) in pairs
    assert all(one < other for one, other in pairs)


@pytest.mark.seconds
@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_pairs_at_the_threshold_become_candidates(threshold: float) -> None:
    rng, found, count = random.Random(1), 0, 400
    for _ in range(count):
        size = 100
        both = round(2 * size * threshold / (1 + threshold))
        common = [rng.getrandbits(63) for _ in range(both)]
        one, other = (
            np.unique(np.array([*common, *(rng.getrandbits(63) for _ in range(size - both))], np.uint64)) for _ in "ab"
        )
        assert jaccard(one, other) == pytest.approx(threshold, abs=0.02)
        flat, starts = np.concatenate([one, other]), np.array([0, len(one), len(one) + len(other)])
        found += len(candidates(minhash(flat, starts, threshold)))
    assert found / count >= 0.96
    assert rows_per_band(threshold) > rows_per_band(threshold - 0.3)


def test_groups_are_tied_directly_or_through_others() -> None:
    assert sorted(groups([(5, 3), (1, 2), (3, 9), (2, 1)])) == [[1, 2], [3, 5, 9]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (r"Compute $\dfrac{1}{2}+x^{10}$.", r"compute \( \frac 12 + x^10 \)", True),
        (r"Find $\left( 3, \frac{\pi}{2} \right)$", "find (3, π/2)", True),
        (r"$\text{Evaluate }\dbinom{5}{3}$", r"evaluate \binom{5}{3}.", True),
        ("x² ≤ 3", r"$x^2 \leq 3$", True),
        (r"\begin{align*} x &= 1 \\[2pt] y &= 2 \end{align*}", "x = 1 y = 2", True),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("What is 3.5?", "What is 35?", False),
        ("What is $x_1$?", "What is $x_2$?", False),
    ],
)
def test_what_makes_two_questions_one(one: str, other: str, same: bool) -> None:
    assert (identity(one) == identity(other)) is same


def test_an_n_gram_is_a_run_and_no_set() -> None:
    one, other = (hashes(text.split()) for text in ("a b c d", "a c b d"))
    assert not set(grams(one, 3).tolist()) & set(grams(other, 3).tolist())
    assert len(grams(one, 5)) == 0
