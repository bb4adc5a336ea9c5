"""Which sample rejection sampling takes, by brute force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.samples import tries
from jobs.evaluate.sweep.tree import Leaf


def leaf(end: str) -> Leaf:
    return Leaf(None, 5, 0, end, 0, "stop", 0, 0)


POOLS = st.lists(st.booleans(), min_size=1, max_size=8)


@given(POOLS, st.data())
def test_the_first_sample_that_ends_by_itself_is_taken_within_so_many_tries(
    pool: list[bool], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(pool) - 1))
    most = data.draw(st.integers(1, len(pool)))
    looked_at = tries([leaf("natural" if ends else "rejected") for ends in pool], first, most)
    turn = [(first + number) % len(pool) for number in range(most)]
    expected = next((turn[: at + 1] for at, each in enumerate(turn) if pool[each]), turn)
    assert looked_at == expected


@given(POOLS)
def test_other_policies_take_each_sample_as_it_is(pool: list[bool]) -> None:
    ends = [leaf("natural" if each else "forced") for each in pool]
    assert [tries(ends, first, 0) for first in range(len(pool))] == [[first] for first in range(len(pool))]


def test_every_sample_is_taken_equally_often_where_all_end_by_themselves() -> None:
    ends = [leaf("natural")] * 5
    assert sorted(tries(ends, first, 5)[-1] for first in range(5)) == list(range(5))
