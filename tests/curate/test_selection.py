"""Selections are functions of data and seed, and s1's draws as the paper's algorithm does."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.curate.row import Entry
from jobs.curate.selection import SELECTIONS, Preselected, Wanted, select


def row(number: int, length: int = 0, domain: str = "d", source: str = "s", verdict: str = "correct") -> Entry:
    key = f"{number:05}"
    return Entry(key, key, source, length, verdict == "correct", domain, number)


def picked(name: str, rows: Sequence[Entry], size: int, seed: int = 0, **more: object) -> list[Entry]:
    return select(name, rows, Wanted(size, random.Random(f"{seed}"), **more))


POOL = [row(number, length=(number * 37) % 101, domain=f"d{number % 7}") for number in range(140)]


@given(st.sampled_from(sorted(SELECTIONS)), st.integers(1, 140), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_set_follows_from_data_and_seed_and_has_its_size(name: str, size: int, seed: int, rng: random.Random) -> None:
    first = picked(name, POOL, size, seed)
    again = picked(name, rng.sample(POOL, len(POOL)), size, seed)
    assert first == again
    assert len(first) == (size if SELECTIONS[name].sized else len(POOL))
    assert len({each.key for each in first}) == len(first)


def test_seeds_draw_other_sets_where_there_is_chance() -> None:
    for name in sorted(SELECTIONS):
        sets = {tuple(each.key for each in picked(name, POOL, 30, seed)) for seed in range(3)}
        assert len(sets) == (1 if name in ("longest", "shortest", "full") else 3), name


def test_longest_and_shortest_are_by_length() -> None:
    lengths = sorted(each.length for each in POOL)
    assert sorted(each.length for each in picked("longest", POOL, 10)) == lengths[-10:]
    assert sorted(each.length for each in picked("shortest", POOL, 10)) == lengths[:10]


def test_diverse_draws_every_domain_alike_however_large() -> None:
    rows = [row(number, domain="large" if number < 9000 else f"small{number % 9}") for number in range(9900)]
    taken = Counter(each.domain for each in picked("diverse", rows, 900))
    assert all(60 <= count <= 130 for count in taken.values()), taken


def test_s1_takes_the_longest_of_a_domain_with_one_half_and_the_next_with_a_quarter() -> None:
    rows = [row(number, length=1000 - number) for number in range(50)]
    first = Counter(picked("s1", rows, 1, seed)[0].key for seed in range(4000))
    assert first["00000"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert first["00001"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert first["00002"] / 4000 == pytest.approx(0.125, abs=0.02)


def test_s1_takes_what_is_preselected_first_and_only_if_it_is_correct_and_long() -> None:
    rows = [row(number, 100 * number, source="aime" if number < 10 else "numina") for number in range(40)]
    rows += [row(100, 9000, source="aime", verdict="wrong")]
    taken = picked("s1", rows, 12, preselect=(Preselected("AIME", 250),))
    assert {each.key for each in taken} >= {f"{number:05}" for number in range(3, 10)}
    forced = picked("s1", rows, 5, preselect=(Preselected("AIME", 250),))
    assert {each.source for each in forced} == {"aime"}
    assert "00100" not in {each.key for each in forced}


def test_weights_hold_after_the_first_seven_tenths() -> None:
    rows = [row(number, domain=f"d{number % 4}") for number in range(8000)]
    taken = Counter(each.domain for each in picked("s1", rows, 2000, weights={"d0": 3.0, "d1": 1.0}))
    assert taken["d0"] == pytest.approx(350 + 450, abs=90)
    assert taken["d1"] == pytest.approx(350 + 150, abs=90)
    assert taken["d2"] == pytest.approx(350, abs=70)


def test_weights_of_domains_that_ran_out_leave_the_others_alike() -> None:
    rows = [row(number, domain="d0" if number < 3 else "d1") for number in range(20)]
    assert len(picked("s1", rows, 20, weights={"d0": 5.0})) == 20
