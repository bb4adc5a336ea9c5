"""How far a sweep is, and when it will be done, against sweeps whose end is known."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import pairwise
from math import inf

import pytest

from jobs.evaluate.decode.forecast import Forecast, Progress
from jobs.evaluate.decode.pace import Pace


def simulate(
    sizes: list[int],
    seats: int,
    planned: float,
    load: int = 0,
    for_traces: float = 0.0,
    most: float = inf,
    every: int = 1,
) -> Iterator[tuple[int, Progress]]:
    """`every` so many seconds: engines load for some time, then each trace in one of the `seats` gets 30 tokens a
    second, or more as fewer of them are taken: so much of a step's time is for its traces."""
    forecast = Forecast(planned)
    queue = list(sizes)
    live: list[tuple[int, float]] = []
    second = 0
    while queue or live:
        if second % every == 0:
            yield second, forecast.at([(int(done), most) for _, done in live], [0] * len(queue))
        second += 1
        if second <= load:
            continue
        speed = 30 / (1 - for_traces + for_traces * max(1, len(live)) / seats)
        live = [(size, min(size, done + speed)) for size, done in live]
        forecast.finished([size for size, done in live if done == size])
        live = [(size, done) for size, done in live if done < size]
        while queue and len(live) < seats:
            live.append((queue.pop(0), 0))
    yield second, forecast.at([], [])


def long_traces(count: int, seed: int = 1, most: int = 32_000, spread: float = 0.65) -> list[int]:
    rng = random.Random(seed)
    return [min(most, round(rng.lognormvariate(8.5, spread))) for _ in range(count)]


@pytest.mark.seconds
@pytest.mark.parametrize("planned", [500, 6000, 40_000])
@pytest.mark.parametrize(("units", "seats"), [(30, 64), (200, 64), (600, 64)])
def test_tokens_only_grow_and_end_at_what_was_expected(units: int, seats: int, planned: float) -> None:
    sizes = long_traces(units)
    told = [progress for _, progress in simulate(sizes, seats, planned)]
    tokens = [progress.tokens for progress in told]
    assert tokens == sorted(tokens)
    assert all(progress.tokens <= progress.expected for progress in told)
    assert told[-1] == Progress(sum(sizes), sum(sizes), units, 0, 0.0)
    # They move every second, though for many of them no unit ends.
    assert all(after > before for before, after in pairwise(tokens[1:-1]))


@pytest.mark.seconds
@pytest.mark.parametrize("planned", [1500, 6000, 20_000])
def test_what_all_units_come_to_is_known_when_a_third_of_them_are_done(planned: float) -> None:
    sizes = long_traces(1000)
    for _, progress in simulate(sizes, 64, planned, every=5):
        if progress.units > 300:
            assert progress.expected == pytest.approx(sum(sizes), rel=0.15)


def ratios(
    sizes: list[int], seats: int, for_traces: float, most: float, first: float, last: float, load: int = 0
) -> Iterator[float]:
    """The time that is left, as told over as it was, between two fractions of the time for decoding."""
    pace, told = Pace(), []
    for second, progress in simulate(sizes, seats, 6000, load, for_traces, most, every=20):
        told.append((second, pace.left(float(second), progress)))
    end = told[-1][0]
    for second, left in told:
        if load + first * (end - load) < second < load + last * (end - load):
            assert left is not None
            yield left / (end - second)
    assert all(left is None for second, left in told if second <= load)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("for_traces", "least", "most"), [(0.0, 0.7, 1.1), (1 / 3, 0.85, 1.15), (2 / 3, 0.9, 1.6), (1.0, 0.9, 3.0)]
)
@pytest.mark.parametrize(("units", "seats"), [(1000, 64), (300, 64), (200, 16), (400, 200)])
def test_the_time_that_is_left_is_about_right_though_the_last_traces_decode_alone(
    units: int, seats: int, for_traces: float, least: float, most: float
) -> None:
    """Traces of which a tenth is cut at a budget, from a quarter of the time until nine tenths of it have passed."""
    for seed in range(3):
        sizes = long_traces(units, seed, 8000, 0.9)
        found = list(ratios(sizes, seats, for_traces, 8000, 0.25, 0.9))
        assert least < min(found), seed
        assert max(found) < most, seed


@pytest.mark.seconds
def test_the_longest_of_traces_without_a_budget_are_foretold_and_loading_is_not_in_it() -> None:
    """The last few of a thousand take a third of the time: their end cannot be known, only how it is distributed."""
    for for_traces in (0.0, 1 / 3):
        for seed in range(3):
            found = list(ratios(long_traces(1000, seed), 64, for_traces, 32_000, 0.25, 0.75, load=600))
            assert min(found) > 0.6, (for_traces, seed)
            assert max(found) < 1.3, (for_traces, seed)


def test_a_progress_of_32000_units_takes_a_few_thousandths_of_a_second() -> None:
    rng = random.Random(0)
    forecast = Forecast(6000)
    forecast.finished([rng.randint(1, 32_000) for _ in range(16_000)])
    under_way = [(rng.randint(0, 20_000), 32_000.0) for _ in range(512)]
    began = time.process_time()
    for _ in range(20):
        forecast.at(under_way, [0] * 15_488)
    assert (time.process_time() - began) / 20 < 0.05


def test_units_that_were_begun_before_are_not_taken_for_new_ones() -> None:
    forecast = Forecast(1000)
    forecast.finished([1000, 1000, 5000])
    assert forecast.at([], [0]).expected == 7000 + round(7000 / 3)
    assert forecast.at([], [3000]).expected == 7000 + 5000
    # One that is longer than all that finished is half done, but never beyond the most that it can come to.
    assert forecast.at([(6000, inf)], []).expected == 7000 + 12_000
    assert forecast.at([(6000, 8000)], []).expected == 7000 + 8000


def test_the_short_ones_finishing_first_do_not_mislead() -> None:
    """Of four that began together two are done: half of all units are longer than the longest of these."""
    forecast = Forecast(9000)
    forecast.finished([1000, 2000])
    told = forecast.at([(2500, inf), (2500, inf)], [0])
    assert told.expected == 3000 + 2 * 9000 + (1000 + 2000 + 2 * 9000) / 4


def test_steps_are_those_of_the_units_that_wait_for_a_seat_too() -> None:
    forecast = Forecast(1000)
    forecast.finished([100] * 10_000)
    assert forecast.at([(50, inf), (20, inf)], [0, 0, 0]).steps == 50 + 200
    assert forecast.at([(50, inf), (20, inf)], [0] * 20_000).steps == pytest.approx(100 * 10_000, rel=0.001)


def test_tokens_that_were_lost_with_a_replica_were_decoded_all_the_same() -> None:
    pace = Pace()
    for second, tokens in enumerate([0, 100, 200, 50, 150, 250]):
        left = pace.left(float(second), Progress(tokens, 1000, 0, 1, 1000.0 - tokens))
        assert left is None or left > 0
    assert left == pytest.approx(750 / (400 / 5))


def test_while_an_engine_stands_still_it_is_as_fast_as_before() -> None:
    pace = Pace()
    for second in range(400):
        left = pace.left(float(second), Progress(min(second, 100) * 10, 2000, 0, 1, 2000.0 - min(second, 100) * 10))
    assert left is not None
    assert 100 < left < 500
