"""Which samples of a question are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.distil.keeping import RULES, Candidate, by_majority, dropped
from jobs.evaluate.sweep.ledger import Verdict


def candidates(*told: tuple[Verdict, str | None, int]) -> list[Candidate]:
    return [Candidate(sample, *each) for sample, each in enumerate(told)]


FIVE = candidates(
    ("wrong", "1", 5), ("correct", "2", 90), ("no_answer", None, 400), ("correct", "2", 40), ("correct", "2", 40)
)


@pytest.mark.parametrize(
    ("rule", "most", "kept"),
    [
        ("all", None, [0, 1, 2, 3, 4]),
        ("all", 2, [0, 1]),
        ("correct", None, [1, 3, 4]),
        ("correct", 2, [1, 3]),
        ("first_correct", None, [1]),
        ("shortest_correct", None, [3]),
    ],
)
def test_each_rule_keeps_its_own_and_says_why_not_of_the_rest(rule: str, most: int | None, kept: list[int]) -> None:
    gone = dropped(RULES[rule], most, FIVE, referenced=True)
    assert [each.sample for each in FIVE if each.sample not in gone] == kept
    assert all(gone.values())
    if rule == "correct":
        assert (gone[0], gone[2]) == ("wrong", "no answer")


def test_without_a_reference_what_most_samples_answer_is_taken_for_it() -> None:
    votes = candidates(("wrong", "7", 9), ("wrong", "3", 9), ("wrong", "7", 9), ("no_answer", None, 9))
    assert [each.verdict for each in by_majority(votes)] == ["correct", "wrong", "correct", "no_answer"]
    assert dropped(RULES["correct"], None, votes, referenced=False) == {1: "wrong", 3: "no answer"}
    assert dropped(RULES["correct"], None, votes[:2], referenced=False) == {0: "not graded", 1: "not graded"}


verdicts = st.sampled_from(["correct", "wrong", "no_answer", "error", "ungraded"])


@given(
    st.lists(st.tuples(verdicts, st.sampled_from(["1", "2", None]), st.integers(0, 9)), max_size=8),
    st.sampled_from(list(RULES)),
    st.none() | st.integers(1, 4),
    st.booleans(),
)
def test_more_samples_never_change_what_was_dropped_for_its_own_sake(
    told: list[tuple[Verdict, str | None, int]], rule: str, most: int | None, referenced: bool
) -> None:
    several = candidates(*told)
    gone = dropped(RULES[rule], most, several, referenced)
    assert set(gone) <= {each.sample for each in several}
    kept = [each for each in several if each.sample not in gone]
    assert most is None or len(kept) <= most
    if referenced and rule != "all":
        assert all(each.verdict == "correct" for each in kept)
        assert bool(kept) == any(each.verdict == "correct" for each in several)
