"""Units are let in as the cache is expected to hold them: simulated here, a token per unit and tick."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluate.decode.admission import Admission

LONGEST = 1000


@dataclass
class Cache:
    """Who is decoded, and how much of each is there."""

    capacity: int
    sizes: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    most_units: int = 0
    most_tokens: int = 0
    held: list[int] = field(default_factory=list)
    """Tokens there at each tick at which units were waiting."""

    async def decode(self, lengths: list[int], most: int, capacity: int | None) -> None:
        admission = Admission(capacity, most)
        finished = [asyncio.Event() for _ in lengths]

        async def unit(number: int) -> None:
            async with admission.turn(LONGEST) as ticket:
                self.order.append(number)
                self.sizes[number] = 0
                ticket.size = lambda: self.sizes[number]
                self.most_units = max(self.most_units, len(self.sizes))
                await finished[number].wait()
            self.sizes.pop(number)

        tasks = [asyncio.create_task(unit(number)) for number in range(len(lengths))]
        while not all(task.done() for task in tasks):
            for number in list(self.sizes):
                self.sizes[number] += 1
                if self.sizes[number] == lengths[number]:
                    finished[number].set()
            tokens = sum(self.sizes.values())
            self.most_tokens = max(self.most_tokens, tokens)
            if len(self.order) < len(lengths):
                self.held.append(tokens)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            admission.admit()
            assert 0 < admission.at_once <= most
        await asyncio.gather(*tasks)


def decode(lengths: list[int], most: int, capacity: int | None) -> Cache:
    cache = Cache(capacity or 0)
    asyncio.run(cache.decode(lengths, most, capacity))
    return cache


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 20),
    st.one_of(st.none(), st.integers(1, 5 * LONGEST)),
)
def test_every_unit_has_its_turn_in_order_and_never_more_than_allowed(
    lengths: list[int], most: int, capacity: int | None
) -> None:
    cache = decode(lengths, most, capacity)
    assert cache.order == list(range(len(lengths)))
    assert cache.most_units <= most
    if capacity is None:
        assert cache.most_units == min(most, len(lengths))


def test_it_begins_with_as_many_as_fit_at_their_longest() -> None:
    cache = decode([LONGEST] * 8, 64, 3 * LONGEST)
    assert cache.most_units == 3
    assert cache.most_tokens <= 3 * LONGEST


def test_a_cache_of_eight_of_the_longest_is_filled_with_what_is_shorter_and_hardly_overrun() -> None:
    """Natural lengths as of the paper's workload: log-normal, a sixth of the longest in the mean."""
    rng = random.Random(0)
    lengths = [min(LONGEST, max(1, round(rng.lognormvariate(4.9, 0.65)))) for _ in range(600)]
    cache = decode(lengths, 200, 8 * LONGEST)
    settled = cache.held[len(cache.held) // 4 :]
    filled = sum(settled) / len(settled) / (8 * LONGEST)
    assert cache.most_units > 4 * 8, "the worst case alone would let in eight"
    assert filled > 0.45, "a unit under way is half its length in the mean"
    assert cache.most_tokens < 1.1 * 8 * LONGEST


def test_a_turn_that_is_given_up_is_not_lost() -> None:
    async def use() -> None:
        admission = Admission(None, 1)

        async def take() -> None:
            async with admission.turn(1):
                await asyncio.sleep(0)

        async with admission.turn(1):
            waiting = [asyncio.create_task(take()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        waiting[1].cancel()  # it was let in, and has not heard of it
        await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(60), admission.turn(1):
            pass

    asyncio.run(use())
