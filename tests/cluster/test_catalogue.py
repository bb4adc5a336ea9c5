"""The machine catalogue: whole, consistent, and clear about names that it does not have."""

from __future__ import annotations

import datetime

import pytest

from cluster.catalogue import known_machine, machine, names


@pytest.mark.parametrize("name", names())
def test_every_entry_is_complete_and_plausible(name: str) -> None:
    found = machine(name)
    assert 0 < found.card.reserved < found.card.memory
    assert 0 < found.card.mfu < 1
    assert found.card.link <= found.card.bandwidth
    assert found.usd_per_hour / found.cards < 20
    assert datetime.date(2025, 1, 1) < found.priced < datetime.date(2027, 1, 1)


def test_the_catalogue_has_the_cards_that_experiments_are_planned_on() -> None:
    assert {"h100", "h200", "a100-40gb", "a100-80gb", "b200", "l40s", "cpu"} < set(names())
    assert machine("p5.48xlarge").card == machine("h100").card


@pytest.mark.parametrize(
    ("name", "bundle", "holds"),
    [
        ("g6e.xlarge", {"CPU": 4.0, "GPU": 1.0}, True),
        ("g6e.xlarge", {"CPU": 8.0, "GPU": 1.0}, False),
        ("g6e.xlarge", {"CPU": 1.0, "GPU": 2.0}, False),
        ("l40s", {"CPU": 8.0, "GPU": 1.0}, True),  # the card is in larger machines too
        ("l40s", {"CPU": 193.0}, False),
        ("p5.48xlarge", {"CPU": 192.0, "GPU": 8.0}, True),
        ("h100", {"GPU": 9.0}, False),
        ("m7i.2xlarge", {"CPU": 1.0, "GPU": 1.0}, False),
        ("cpu", {"CPU": 8.0}, True),
        ("p4d.24xlarge", {"CPU": 1.0, "GPU": 0.0, "a label of its own": 1.0}, True),
    ],
)
def test_a_machine_holds_what_one_node_of_its_kind_has(name: str, bundle: dict[str, float], holds: bool) -> None:
    assert machine(name).holds(bundle) is holds


def test_a_whole_machine_is_paid_whole_and_a_card_by_the_card() -> None:
    hour = 3600.0
    assert machine("p5.48xlarge").usd(9, hour) == pytest.approx(2 * 55.04)
    assert machine("h100").usd(9, hour) == pytest.approx(9 / 8 * 55.04)


def test_a_ring_across_nodes_is_as_fast_as_its_slowest_part() -> None:
    p5 = machine("p5.48xlarge")
    assert p5.interconnect(8) == p5.card.link
    assert p5.interconnect(16) == p5.network < p5.card.link


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert known_machine("h100") == "h100"
    with pytest.raises(ValueError, match=r"'p5.48xlarg' is not in the machine catalogue: did you mean 'p5.48xlarge'\?"):
        known_machine("p5.48xlarg")
    with pytest.raises(ValueError, match="known are h100, h200,"):
        known_machine("my laptop")
