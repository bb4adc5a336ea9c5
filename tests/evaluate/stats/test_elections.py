"""What scored votes elect of k samples, against the enumeration of every subset with exact fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluate.stats import weighted
from jobs.evaluate.stats.curves import drawn
from jobs.evaluate.stats.elections import Ballots, Elected
from jobs.evaluate.stats.outcomes import of_frame, read
from jobs.evaluate.stats.pool import BLANK, CORRECT, ERROR, NONE, Pool
from jobs.evaluate.stats.subsets import best_at
from jobs.evaluate.stats.votes import VOTES, Vote, spelled
from tests.evaluate.stats.test_at_k import AUTO, rows, write

Sample = tuple[int, int]
"""What it said, and its score in fifths, so that sums tie as often as they can."""

SAMPLE = st.tuples(st.sampled_from([CORRECT, CORRECT, BLANK, 1, 2, 7]), st.integers(0, 4))
CELL = st.lists(SAMPLE, min_size=1, max_size=8)


def best(subset: Sequence[Sample]) -> Fraction:
    """The chance that the one taken is correct: a sample that said nothing is taken where no other said anything."""
    answered = [each for each in subset if each[0] != BLANK]
    highest = max((score for _, score in answered), default=0)
    leaders = [said for said, score in answered if score == highest]
    return Fraction(leaders.count(CORRECT), max(1, len(leaders)))


def elected(subset: Sequence[Sample]) -> Fraction:
    """The share of a weighted vote that is the correct answer's."""
    weights: Counter[int] = Counter()
    for said, score in subset:
        if said != BLANK:
            weights[said] += score
    leaders = [said for said, weight in weights.items() if weight == max(weights.values())]
    return Fraction(leaders.count(CORRECT), max(1, len(leaders)))


def mean(cell: Sequence[Sample], k: int, outcome: Callable[[Sequence[Sample]], Fraction]) -> float:
    subsets = list(combinations(cell, k))
    return float(sum(map(outcome, subsets)) / len(subsets))


def ballots(cells: Sequence[Sequence[Sample]], policies: int = 1) -> Ballots:
    """A cell after the other, filled up with samples that are none."""
    most = max(map(len, cells))
    shape = (-1, policies, most)
    said = np.array([[each[0] for each in cell] + [NONE] * (most - len(cell)) for cell in cells], dtype=np.int32)
    scores = np.array([[each[1] / 5 for each in cell] + [0] * (most - len(cell)) for cell in cells])
    pool = Pool(said.reshape(shape), np.zeros(said.shape).reshape(shape), {"given": scores.reshape(shape)})
    nobody = np.zeros((len(cells) // policies, policies))
    return Ballots(nobody, nobody, nobody[:, :, None].astype(np.int64), nobody, pool)


def counted(kind: str, cells: Sequence[Sequence[Sample]], policies: int = 1) -> Elected:
    return Vote(kind, "given").of(ballots(cells, policies), range(1, max(map(len, cells)) + 1), seed=3)


@pytest.mark.seconds
@settings(max_examples=200, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=4))
@pytest.mark.parametrize(("kind", "outcome"), [("best", best), ("weighted", elected)])
def test_at_every_k_it_is_the_mean_over_all_subsets(
    kind: str, outcome: Callable[[Sequence[Sample]], Fraction], cells: list[list[Sample]]
) -> None:
    """Few samples have few subsets, so nothing is drawn; ties of scores and of sums of scores included."""
    found = counted(kind, cells)
    assert found.errors is None or not found.errors.any()
    for cell, chances in zip(cells, found.chances[:, 0], strict=True):
        for k in range(1, len(cell) + 1):
            assert chances[k - 1] == pytest.approx(mean(cell, k, outcome), abs=1e-9)
        assert np.isnan(chances[len(cell) :]).all(), "more than there are cannot be taken"


@settings(max_examples=60, deadline=None)
@given(CELL, CELL.filter(lambda cell: len(cell) > 1), st.data())
@pytest.mark.parametrize("kind", ["best", "weighted"])
def test_samples_with_errors_are_not_drawn_wherever_they_are(
    kind: str, one: list[Sample], other: list[Sample], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(other)))
    with_error = [*other[:place], (ERROR, 4), *other[place:]]
    found = counted(kind, [one, with_error]).chances[1, 0]
    np.testing.assert_allclose(found[: len(other)], counted(kind, [one, other]).chances[1, 0][: len(other)], atol=1e-9)
    assert np.isnan(found[len(other) :]).all()


def test_drawn_subsets_come_to_the_mean_over_all_within_the_error_that_they_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """60 items of 9 samples under two policies, of which a few orders are drawn: 300 seeds."""
    rng = np.random.default_rng(1)
    cells = [list(zip(rng.choice([0, 0, 1, 2, 3], 9), rng.integers(1, 5, 9), strict=True)) for _ in range(40)]
    exact = np.array([[mean(cell, k, elected) for k in (4, 5)] for cell in cells]).reshape(20, 2, 2).mean(axis=0)
    monkeypatch.setattr(weighted, "SUBSETS", 1)
    monkeypatch.setattr(weighted, "FEWEST_ORDERS", 20)
    given_ballots = ballots(cells, policies=2)
    found = [Vote("weighted", "given").of(given_ballots, (4, 5), seed) for seed in range(300)]
    means = np.array([each.chances.mean(axis=0) for each in found])
    stated = np.array([each.errors for each in found])
    spread = means.std(axis=0)
    np.testing.assert_allclose(means.mean(axis=0), exact, atol=4 * spread.max() / 300**0.5)
    np.testing.assert_allclose(np.sqrt((stated**2).mean(axis=0)), spread, rtol=0.15)
    again = Vote("weighted", "given").of(given_ballots, (4, 5), 7)
    np.testing.assert_array_equal(again.chances, found[7].chances)


def test_the_grader_as_a_scorer_is_the_upper_bound_of_all_choices_and_of_all_votes() -> None:
    """Chosen by the verdict itself, the best of k is pass@k, and so is what verdicts elect."""
    rng = np.random.default_rng(2)
    cells = [[(int(said), int(said == CORRECT)) for said in rng.choice([0, 1, 2, BLANK], 7)] for _ in range(30)]
    correct = [sum(said == CORRECT for said, _ in cell) for cell in cells]
    passed = [[mean([(said, 0) for said, _ in cell], k, lambda s: Fraction(any(x[0] == 0 for x in s))) for k in
               range(1, 8)] for cell in cells]  # fmt: skip
    assert max(correct) > 1
    np.testing.assert_allclose(counted("best", cells).chances[:, 0], passed, atol=1e-12)
    by_verdict = counted("weighted", cells).chances[:, 0]
    assert (by_verdict <= np.array(passed) + 1e-12).all()


def test_one_tie_of_all_is_a_draw_of_one() -> None:
    """Where all scores are alike, the best of any k is as good as one sample."""
    right = np.array([[True, False, False, True, False]])
    assert best_at(right, np.ones((1, 5)), np.array([5]), 5)[0] == pytest.approx([0.4] * 5)


def test_many_samples_overflow_nothing() -> None:
    """Of 1,024 samples with scores of their own, the best of k is right as pass@k would have it where right is best."""
    right = np.arange(1024)[None] < 3
    chances = best_at(right, -np.arange(1024.0)[None], np.array([1024]), 1024)[0]
    assert chances[0] == pytest.approx(3 / 1024)
    assert (np.diff(chances) > -1e-12).all()
    assert chances[-1] == 1


def test_samples_with_errors_leave_a_range_for_scored_votes_too(tmp_path: Path) -> None:
    """Of 16, 2 and an error that is shorter than both, the best by length is the error, right or wrong."""
    path = write(tmp_path, rows("a", ["!", "16", "2"]), rows("b", ["16", "2", "2"]))
    (task,) = read(path, ["auto"], ["length"])
    votes = spelled(("best", "weighted"), ("length",))
    curves = {curve.name: curve for curve in drawn([task], [AUTO], at_k=(1, 2, 3), votes=votes)}
    assert list(curves) == ["budget", "best@k by length", "weighted@k by length"]
    best_of_two = curves["best@k by length"].points[1]
    assert best_of_two.name == "auto best@2 by length"
    assert best_of_two.items == 2
    # Of a the two that were graded: 16 was shorter. Of b, 16 is the shortest: it leads 2 of 3 pairs.
    assert best_of_two.accuracy == pytest.approx((1 + 2 / 3) / 2)
    assert best_of_two.range is not None
    # a's error leads 2 of its 3 pairs, wrong or right; 16 leads the third.
    assert (best_of_two.range.low, best_of_two.range.high) == pytest.approx(((1 / 3 + 2 / 3) / 2, (1 + 2 / 3) / 2))
    best_of_three = curves["best@k by length"].points[2]
    assert best_of_three.items == 1
    assert (best_of_three.accuracy, best_of_three.range and best_of_three.range.low) == (1, 0.5)


def test_a_score_that_is_no_number_of_at_least_0_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = __import__("pandas").DataFrame(rows("a", ["16", "2"]))
    frame["thinking_tokens"] = [10, -2]
    with pytest.raises(ValueError, match=r"scores: length of item a under auto is -1: a score is a finite number of"):
        of_frame(frame, ["auto"], ["length"])


def test_every_vote_says_what_it_is() -> None:
    assert list(VOTES) == ["pass", "majority", "weighted", "best"]
    assert [vote.curve for vote in spelled(tuple(VOTES), ("length", "exact"))] == [
        *("pass@k", "majority@k"),
        *("weighted@k by length", "weighted@k by exact", "best@k by length", "best@k by exact"),
    ]
    assert [vote.oracle for vote in spelled(("pass", "best"), ("length", "exact"))] == [True, False, True]
