"""A worker that is told that its machine goes: at once to whoever asks, and asked of the head in a thread."""

from __future__ import annotations

import threading

import pytest

from jobs.finetune import leaving
from jobs.finetune.leaving import watching


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "EVERY", 0.001)


def assert_nobody_asks_any_more() -> None:
    for thread in threading.enumerate():
        if thread.name == "leaving":
            thread.join(60)
            assert not thread.is_alive()


def test_what_was_announced_once_stays_announced() -> None:
    answers = [False, False, True]
    with watching(lambda: answers.pop(0)) as announced:
        assert_nobody_asks_any_more()
        assert announced()
        assert announced()


def test_a_head_that_does_not_answer_holds_up_nobody() -> None:
    asked, answers = threading.Event(), threading.Event()

    def leaves() -> bool:
        asked.set()
        return answers.wait()

    with watching(leaves) as announced:
        assert asked.wait(60)
        assert not announced()
    answers.set()
    assert_nobody_asks_any_more()


def test_nobody_asks_once_the_training_is_over() -> None:
    with watching(lambda: False) as announced:
        assert not announced()
    assert_nobody_asks_any_more()
