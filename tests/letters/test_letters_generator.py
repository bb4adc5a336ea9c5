from __future__ import annotations

from collections import Counter

import pytest

from jobs.letters.generator import (
    BAD,
    GOOD,
    MOST_PASSES,
    LettersQuestion,
    careful,
    held_out,
    is_held_out,
    labelled,
    listing,
    skim,
    training,
)

RASPBERRY = LettersQuestion("raspberry", "r")


def test_a_skim_counts_a_doubled_letter_once() -> None:
    trace = skim(RASPBERRY)
    assert trace.text == "r1a1s1p1b1e1r2r2y2"
    assert trace.answer == "2"


def test_a_careful_pass_counts_every_letter() -> None:
    trace = careful(RASPBERRY)
    assert trace.text == "r1a1s1p1b1e1r2r3y3"
    assert trace.answer == RASPBERRY.answer == "3"


def test_a_listing_numbers_the_target_letters_alone() -> None:
    trace = listing(RASPBERRY)
    assert trace.text == "r1r2r3"
    assert trace.answer == "3"


def test_only_doubled_letters_are_skimmed_wrong() -> None:
    for question in held_out(300, seed=3):
        doubled = question.letter * 2 in question.word
        assert (skim(question).answer != question.answer) == doubled
        assert careful(question).answer == question.answer


def test_about_half_of_the_test_words_are_skimmed_right() -> None:
    questions = held_out(200, seed=0)
    right = sum(skim(question).answer == question.answer for question in questions)
    assert 0.40 <= right / len(questions) <= 0.60


def test_equal_arguments_give_equal_items_and_others_give_others() -> None:
    assert held_out(50, seed=1) == held_out(50, seed=1)
    assert held_out(50, seed=1) != held_out(50, seed=2)
    assert list(training(50, seed=1)) == list(training(50, seed=1))
    assert list(training(50, seed=1)) != list(training(50, seed=2))


def test_fewer_test_items_are_the_first_of_more() -> None:
    assert held_out(200, seed=0)[:50] == held_out(50, seed=0)


def test_ids_of_test_items_are_unique() -> None:
    ids = [question.id for question in held_out(1000, seed=0)]
    assert len(set(ids)) == 1000


@pytest.mark.parametrize(("train_seed", "test_seed"), [(0, 0), (0, 1), (5, 0)])
def test_no_test_word_is_ever_trained_on(train_seed: int, test_seed: int) -> None:
    assert all(is_held_out(question.word) for question in held_out(500, test_seed))
    assert not any(is_held_out(question.word) for question, _ in training(5000, train_seed))


def test_traces_are_passes_that_open_as_they_look_and_mostly_the_first_is_the_last() -> None:
    looks = {"Wait": careful, "Hmm": skim, "Alternatively": listing}
    ended_at_first = 0
    for question, trace in training(2000, seed=0):
        first, *others = trace.text.split("\n")
        assert first == skim(question).text
        assert len(others) < MOST_PASSES
        latest = skim(question)
        for line in others:
            opener = next(opener for opener in looks if line.startswith(opener))
            latest = looks[opener](question)
            assert line == opener + latest.text
        assert trace.answer == latest.answer
        ended_at_first += not others
    assert 0.5 < ended_at_first / 2000 < 0.6


def test_labelled_traces_say_whether_their_last_pass_counted_right() -> None:
    labels: Counter[str] = Counter()
    for question, trace in labelled(2000, seed=3):
        assert not is_held_out(question.word)
        latest = trace.text.split("\n")[-1]
        counted = int(latest[-1])
        assert (trace.answer == GOOD) == (counted == question.word.count(question.letter)), (question, trace)
        assert trace.answer in (GOOD, BAD)
        assert 1 <= len(trace.text.split("\n")) <= MOST_PASSES
        labels[trace.answer] += 1
    assert 0.3 < labels[GOOD] / 2000 < 0.7, "neither is rare"
    assert list(labelled(5, seed=3)) == list(labelled(5, seed=3)) != list(labelled(5, seed=4))
