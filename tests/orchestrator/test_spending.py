"""What steps cost is counted while they run, kept through whatever ends them, and limited by ``max_cost``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.machines import in_usd, machine
from jobs.evaluate.config import Config as Evaluate
from orchestrator.experiment import ExperimentError, load
from orchestrator.holdings import Held, Meter, Spending
from orchestrator.spending import SAVE_EVERY, Account, Accounts, OverCost, compared, expect, expected, spent
from orchestrator.step import Estimate, OutputKind, StepConfig
from orchestrator.store import StepFolder, Store, write_json_atomically
from tests.orchestrator.workplace import SLOW, Workplace

SWEEP = '{"model": "some/model", "tasks": ["letters"], "resources": {"gpus": 2, "machine": "p5.48xlarge"}}'
HOUR = 3600.0


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> StepFolder:
    found = Store(tmp_path).step("step", "0" * 16)
    found.create({})
    return found


class Fixed(StepConfig):
    """A step that holds the same from its start to its end."""

    VERSION: ClassVar[int] = 1
    PRODUCES: ClassVar[OutputKind] = "dataset"

    def demands(self) -> list[dict[str, float]]:
        return [{"CPU": 8.0, "GPU": 1.0}] * 16


def say(folder: StepFolder, held: Held, when: float) -> None:
    """What a step says of itself at a time."""
    write_json_atomically(folder.path / "held.json", {**asdict(held), "time": when})


def sweep() -> StepConfig:
    return Evaluate.model_validate_json(SWEEP)


def test_what_holds_the_same_all_the_time_is_paid_for_from_start_to_end_and_attempts_add_up(folder: StepFolder) -> None:
    clock = Clock()
    for _ in range(2):
        account = Account(folder, Fixed(), clock)
        account.start()
        clock.now += HOUR
        account.tick()
        account.save()
        clock.now += HOUR  # nobody runs it
    paid = spent(folder)
    assert paid is not None
    assert paid.seconds == 2 * HOUR
    assert paid.device_seconds == 2 * 16 * HOUR
    assert paid.usd == pytest.approx(machine("h100").usd(16, 2 * HOUR))
    assert paid.device == "GPU"


def test_replicas_that_come_and_go_are_paid_for_while_they_are_there(folder: StepFolder) -> None:
    clock = Clock()
    account = Account(folder, sweep(), clock)
    account.start()
    clock.now += 600
    account.tick()
    assert account.spending.device_seconds == 0
    meter = Meter(clock)
    for devices in (2, 8, 0):
        meter.hold(devices)
        clock.now += 60
        say(folder, meter.held, clock.now)
        account.tick()
    assert account.spending.device_seconds == 60 * (2 + 8)
    assert meter.most == 8
    # A machine of eight is rented whole, whether two of its cards are needed or eight.
    assert account.spending.usd == pytest.approx(2 * machine("p5.48xlarge").usd(8, 60))


def test_what_an_earlier_attempt_said_last_is_not_counted_again(folder: StepFolder) -> None:
    clock = Clock()
    say(folder, Held(2, 500.0), when=7.0)
    account = Account(folder, sweep(), clock)
    account.start()
    clock.now += 10
    account.tick()
    assert account.spending.device_seconds == 0
    say(folder, Held(2, 20.0), when=8.0)
    account.tick()
    assert account.spending.device_seconds == 20


def test_a_run_that_is_killed_loses_seconds_of_its_account(folder: StepFolder) -> None:
    clock = Clock()
    account = Account(folder, Fixed(), clock)
    account.start()
    for _ in range(100):
        clock.now += 0.25
        account.tick()
    paid = spent(folder)
    assert paid is not None
    assert 0 <= 25 - paid.seconds <= SAVE_EVERY + 0.25


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 64)), max_size=20))
def test_a_meter_is_the_sum_of_devices_times_seconds(stretches: list[tuple[float, int]]) -> None:
    clock = Clock()
    meter = Meter(clock)
    for seconds, devices in stretches:
        meter.hold(devices)
        clock.now += seconds
    assert meter.held.device_seconds == pytest.approx(sum(seconds * devices for seconds, devices in stretches))


def test_all_steps_count_towards_the_limit_those_that_are_done_too(tmp_path: Path) -> None:
    steps = {}
    for name in ("one", "two"):
        folder = Store(tmp_path).step(name, "0" * 16)
        folder.create({})
        account = Account(folder, Fixed(), clock := Clock())
        account.start()
        clock.now += HOUR
        account.tick()
        account.save()
        steps[name] = (folder, Fixed())
    whole = machine("h100").usd(32, HOUR)
    Accounts(steps, whole + 0.01).check()
    Accounts(steps, None).check()
    with pytest.raises(OverCost, match=f"max_cost: \\{in_usd(whole)} of \\${whole - 0.01:.0f} is spent"):
        Accounts(steps, whole - 0.01).check()


def test_the_error_of_an_estimate_is_that_of_the_whole_step(folder: StepFolder) -> None:
    assert compared(folder) == ""
    expect(folder, Estimate("", seconds=1800, device_hours=8, usd=55, device="GPU"))
    clock = Clock()
    account = Account(folder, Fixed(), clock)
    account.start()
    clock.now += HOUR
    account.tick()
    account.save()
    expect(folder, Estimate("", seconds=1, device_hours=1, usd=1, device="GPU"))
    assert expected(folder) == Spending(1800, 8 * HOUR, 55, "GPU")
    assert compared(folder) == (
        "estimated 30 min 00 s, $55.00; took 1 h 00 min, $110: 0.50 times the time, 0.50 times the cost"
    )


@pytest.mark.parametrize("value", ["0", "-1", "much", ".inf", "true"])
def test_a_limit_that_is_no_amount_of_money_is_refused(workplace: Workplace, value: str) -> None:
    workplace.write(10)
    with pytest.raises(ExperimentError, match="max_cost"):
        load(workplace.file, (f"max_cost={value}",))
    assert load(workplace.file, ("max_cost=2",)).max_cost == 2.0


def test_a_run_stops_at_its_max_cost_says_so_and_continues_with_a_larger_one(workplace: Workplace) -> None:
    workplace.write(SLOW // 8)
    code, output = workplace.run("run", "words.yaml", "--set", "max_cost=0.00001")
    assert code == 3, output
    assert "max_cost: $" in output
    assert "with a larger max_cost continues" in output
    assert "Traceback" not in output
    assert workplace.status()["state"] == "cancelled"
    assert not (workplace.step() / "claim.json").exists()
    paid = spent(StepFolder(workplace.step()))
    assert paid is not None
    assert paid.usd >= 0.00001
    code, output = workplace.run("status", "words.yaml", "--set", "max_cost=0.00001")
    said = " ".join(output.replace("│", " ").split())
    assert "max_cost: $" in said
    assert "of max_cost $0.000010" in said
    # Not a moment is bought beyond the limit by asking again.
    assert workplace.run("run", "words.yaml", "--set", "max_cost=0.00001")[0] == 3
    again = spent(StepFolder(workplace.step()))
    assert again == paid
    code, output = workplace.run("run", "words.yaml", "--set", "max_cost=1")
    assert code == 0, output
    whole = spent(StepFolder(workplace.step()))
    assert whole is not None
    assert whole.usd > paid.usd
