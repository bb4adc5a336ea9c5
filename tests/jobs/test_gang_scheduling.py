"""Who waits for whom on a cluster that several steps share."""

from __future__ import annotations

import pytest

from jobs import gang_scheduling
from jobs.cluster_state import Machine
from jobs.gang_scheduling import WaitingGangs, will_fit

CPU = {"CPU": 1.0}


def machine(name: str, free: float) -> Machine:
    return Machine(name, "machine", {"CPU": 2.0}, {"CPU": free})


def group(*places: str, waits: bool = False) -> gang_scheduling._Group:
    return gang_scheduling._Group(tuple(CPU for _ in places), places, waits)


def on_a_cluster(monkeypatch: pytest.MonkeyPatch, there: list[Machine], groups: list[gang_scheduling._Group]) -> None:
    monkeypatch.setattr(gang_scheduling, "SETTLES_SECONDS", 0.0)
    monkeypatch.setattr(gang_scheduling, "machines", lambda: there)
    monkeypatch.setattr(gang_scheduling, "_groups", lambda: iter(groups))


@pytest.mark.parametrize(
    ("free", "groups", "fits"),
    [
        ([2.0, 2.0], [], True),
        ([0.0, 0.0], [group("a", "a"), group("b", "b")], True),
        ([0.0, 1.0], [group("a", "a", "b")], True),
        # What anything but a step holds is not given back.
        ([0.0, 0.0], [group("a", "a", "b")], False),
        # Nor is what a step only waits for, or had on a machine that is gone.
        ([2.0, 1.0], [group("", waits=True)], False),
        ([2.0, 1.0], [group("gone")], False),
    ],
)
def test_what_other_steps_hold_will_be_there(
    free: list[float], groups: list[gang_scheduling._Group], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cluster(monkeypatch, [machine("a", free[0]), machine("b", free[1])], groups)
    assert will_fit(CPU, 4) is fits


def test_a_bundle_is_on_one_machine_whatever_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cluster(monkeypatch, [machine("a", 1), machine("b", 0)], [group("a"), group("b")])
    assert will_fit({"CPU": 2.0}, 1)
    assert not will_fit({"CPU": 2.0}, 2)


@pytest.mark.parametrize(
    ("waiting", "first"),
    [
        (group("", "", "", "", waits=True), True),
        (group("a", "a", "b", "b"), False),  # it has its turn
        (group("", waits=True), False),  # a replica
        (group("", "", "", "", "", waits=True), False),  # more than there is, whoever gives way
    ],
)
def test_a_gang_that_waits_and_could_be_placed_goes_first(
    waiting: gang_scheduling._Group, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cluster(monkeypatch, [machine("a", 0), machine("b", 1)], [group("a"), waiting])
    assert WaitingGangs().go_first() is first


def test_a_gang_that_is_about_to_ask_anew_goes_first_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    gangs = WaitingGangs()
    on_a_cluster(monkeypatch, [machine("a", 0)], [group("", "", waits=True)])
    assert gangs.go_first()
    on_a_cluster(monkeypatch, [machine("a", 0)], [])
    assert gangs.go_first()
    monkeypatch.setattr(gang_scheduling, "ASKS_ANEW_SECONDS", 0.0)
    assert not gangs.go_first()
