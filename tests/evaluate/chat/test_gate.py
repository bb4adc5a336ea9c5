"""How many requests go to a server at once."""

from __future__ import annotations

import asyncio

from jobs.evaluate.chat.gate import Gate


async def through(capacity: int, most: int, requests: int) -> tuple[int, list[int], int]:
    """A server that refuses whatever is beyond its capacity, asked until all are answered. Gives the refusals, the
    limit after each answer, and the most that were inside at once."""
    gate, inside, peak, refused = Gate(most), 0, 0, 0
    limits: list[int] = []

    async def ask() -> None:
        nonlocal inside, peak, refused
        while True:
            async with gate.request() as era:
                inside += 1
                peak = max(peak, inside)
                over = inside > capacity
                await asyncio.sleep(0)
                inside -= 1
                if not over:
                    gate.answered()
                    limits.append(gate.limit)
                    return
                refused += 1
                gate.too_many(era)

    await asyncio.gather(*(ask() for _ in range(requests)))
    return refused, limits, peak


def test_the_limit_comes_down_to_what_the_server_takes_and_goes_up_again() -> None:
    refused, limits, peak = asyncio.run(through(capacity=8, most=64, requests=600))
    assert peak == 64
    late = limits[len(limits) // 2 :]
    assert 4 <= sum(late) / len(late) <= 16
    assert refused < 300


def test_a_server_that_refuses_nothing_gets_all() -> None:
    refused, limits, peak = asyncio.run(through(capacity=1000, most=32, requests=200))
    assert (refused, peak) == (0, 32)
    assert set(limits) == {32}


def test_requests_that_were_refused_together_halve_once() -> None:
    async def together() -> int:
        gate = Gate(16)
        async with gate.request() as one, gate.request() as other:
            gate.too_many(one)
            gate.too_many(other)
        return gate.limit

    assert asyncio.run(together()) == 8


def test_it_never_closes() -> None:
    async def often() -> int:
        gate = Gate(4)
        for _ in range(10):
            async with gate.request() as era:
                gate.too_many(era)
        return gate.limit

    assert asyncio.run(often()) == 1
