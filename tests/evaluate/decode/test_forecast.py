"""How far a sweep is, and when it will be done, against sweeps whose end is known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from math import inf

import pytest

from jobs.evaluate.decode.forecast import Forecast, Pace, Progress


def simulate(sizes: list[int], at_once: int, planned: float, load: int = 0) -> Iterator[tuple[int, Progress]]:
    """Second by second: engines load for so long, then each trace under way gets 30 tokens a second."""
    forecast = Forecast(planned)
    queue = list(sizes)
    live: list[tuple[int, int]] = []
    second = 0
    while queue or live:
        yield second, forecast.at([(done, inf) for _, done in live], [0] * len(queue))
        second += 1
        if second <= load:
            continue
        live = [(size, min(size, done + 30)) for size, done in live]
        forecast.finished([size for size, done in live if done == size])
        live = [(size, done) for size, done in live if done < size]
        while queue and len(live) < at_once:
            live.append((queue.pop(0), 0))
    yield second, forecast.at([], [])


def long_traces(count: int) -> list[int]:
    rng = random.Random(1)
    return [min(32_000, round(rng.lognormvariate(8.5, 0.65))) for _ in range(count)]


@pytest.mark.parametrize("planned", [500, 6000, 40_000])
@pytest.mark.parametrize(("units", "at_once"), [(30, 64), (200, 64), (1000, 64)])
def test_tokens_only_grow_and_end_at_what_was_expected(units: int, at_once: int, planned: float) -> None:
    sizes = long_traces(units)
    told = [progress for _, progress in simulate(sizes, at_once, planned)]
    tokens = [progress.tokens for progress in told]
    assert tokens == sorted(tokens)
    assert all(progress.tokens <= progress.expected for progress in told)
    assert told[-1] == Progress(sum(sizes), sum(sizes), units)
    # They move every second, though for many of them no unit ends.
    assert all(after > before for before, after in pairwise(tokens[1:-1]))


@pytest.mark.parametrize("planned", [1500, 6000, 20_000])
def test_what_all_units_come_to_is_known_when_a_third_of_them_are_done(planned: float) -> None:
    sizes = long_traces(1000)
    for _, progress in simulate(sizes, 64, planned):
        if progress.units > 300:
            assert progress.expected == pytest.approx(sum(sizes), rel=0.15)


def test_the_time_that_is_left_is_about_right_and_loading_is_not_in_it() -> None:
    pace, told = Pace(), []
    for second, progress in simulate(long_traces(1000), 64, 6000, load=600):
        told.append((second, pace.left(float(second), progress)))
    end = told[-1][0]
    assert told[300][1] is None
    for second, left in told:
        if 600 + (end - 600) / 4 < second < end - 1000:
            assert left is not None
            # The last traces decode alone, and slower together than all did: what is left is more than it seems.
            assert 1 / 2.6 < left / (end - second) < 2


def test_units_that_were_begun_before_are_not_taken_for_new_ones() -> None:
    forecast = Forecast(1000)
    forecast.finished([1000, 1000, 5000])
    assert forecast.at([], [0]).expected == 7000 + round(7000 / 3)
    assert forecast.at([], [3000]).expected == 7000 + 5000
    # One that is longer than all that finished is half done, but never beyond the most that it can come to.
    assert forecast.at([(6000, inf)], []).expected == 7000 + 12_000
    assert forecast.at([(6000, 8000)], []).expected == 7000 + 8000


def test_tokens_that_were_lost_with_a_replica_do_not_turn_time_back() -> None:
    pace = Pace()
    for second, tokens in enumerate([0, 100, 200, 50, 150, 250]):
        left = pace.left(float(second), Progress(tokens, 1000, 0))
        assert left is None or left > 0
    assert left == pytest.approx(15)
