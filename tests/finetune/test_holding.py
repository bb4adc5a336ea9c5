"""A gang is charged from the grant of its machines to their give-back, whether or not a worker ever began."""

from __future__ import annotations

import pytest

from cluster.catalogue import machine
from jobs.finetune import holding
from jobs.finetune.holding import _Watch
from jobs.gang_scheduling import Granted
from orchestrator.job.usage import Meter


class Head:
    """Ray's head, and a clock that all share; its own may differ."""

    def __init__(self, skew: float) -> None:
        self.now, self.skew = 1000.0, skew
        self.there: dict[str, Granted] = {}

    def grant(self, name: str, workers: int) -> None:
        self.there[name] = Granted(self.now + self.skew, ({"CPU": 4.0, "GPU": 1.0},) * workers)

    def granted(self, name: str) -> dict[str, Granted]:
        assert name == "me"
        return dict(self.there)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
def test_grants_between_two_looks_count_from_when_they_were(monkeypatch: pytest.MonkeyPatch, skew: float) -> None:
    head = Head(skew)
    monkeypatch.setattr(holding, "granted", head.granted)
    monkeypatch.setattr(holding, "time", head)
    meter = Meter(machine("h100"), head.monotonic)
    watch = _Watch("me", meter, lambda bundle: bundle.get("GPU", 0.0))
    head.now += 50  # it waits
    watch.look()
    assert not watch.holds
    head.now += 0.25
    head.grant("first", 16)
    head.now += 0.75
    watch.look()
    head.now += 99  # it loads, and is lost before a worker said anything
    watch.look()
    del head.there["first"]
    watch.look()
    assert not watch.holds
    # A head whose clock is wrong is believed within the second between two looks, and no more.
    exact = 16 * 99.75
    assert meter.held.device_seconds == pytest.approx(exact, abs=0.0 if not skew else 16 * 0.76)


def test_what_takes_time_to_be_given_back_is_paid_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(0.0)
    head.grant("left", 8)
    gone_at = head.now + 10
    monkeypatch.setattr(holding, "granted", lambda name: head.granted(name) if head.now < gone_at else {})
    monkeypatch.setattr(holding, "time", head)
    meter = Meter(machine("h100"), head.monotonic)
    _Watch("me", meter, lambda bundle: bundle.get("GPU", 0.0)).until_gone(30)
    assert meter.held.devices == 0
    assert meter.held.device_seconds == pytest.approx(8 * 10, abs=8 * 0.3)
