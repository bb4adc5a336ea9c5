from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.searched import elect

VOTES = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3", None]), st.floats(0, 1, width=16, exclude_min=True)), min_size=1
)


def test_scores_of_the_same_answer_add_up() -> None:
    meanings, scores = ["1", "2", "1", "2", "2"], [0.9, 0.5, 0.8, 0.3, 0.2]
    assert elect(meanings, scores, "weighted") == 0, "1.7 against 1.0, and its best trace stands for it"
    assert elect(meanings, scores, "majority") == 1
    assert elect(["2", "2", "1"], [0.6, 0.7, 0.9], "weighted") == 1
    assert elect(["2", "2", "1"], [0.6, 0.7, 0.9], "best") == 2


def test_who_says_nothing_has_no_vote_unless_nobody_says_anything() -> None:
    assert elect([None, None, "1"], [0.9, 0.8, 0.1], "weighted") == 2
    assert elect([None, None, "1"], [0.9, 0.8, 0.1], "majority") == 2
    assert elect([None, None, "1"], [0.9, 0.8, 0.1], "best") == 2
    assert elect([None, None], [0.8, 0.9], "weighted") == 1


def test_of_equals_the_first_is_taken() -> None:
    assert elect(["2", "1"], [0.5, 0.5], "weighted") == 0
    assert elect(["2", "1", "1", "2"], [0.0, 0.0, 0.0, 0.0], "majority") == 0


@given(VOTES, st.sampled_from(["weighted", "majority", "best"]))
def test_the_elected_has_as_much_weight_as_any(votes: list[tuple[str | None, float]], how: str) -> None:
    meanings, scores = zip(*votes, strict=True)
    won = meanings[elect(meanings, scores, how)]
    said = {meaning for meaning in meanings if meaning is not None}
    assert (won is None) == (not said)
    weight = {"weighted": sum, "majority": len, "best": max}[how]
    by_meaning = {each: weight([s for m, s in votes if m == each]) for each in said}
    assert not said or by_meaning[won] == max(by_meaning.values())
