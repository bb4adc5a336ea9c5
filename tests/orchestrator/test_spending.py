"""What steps cost is counted while they run, kept through whatever ends them, and limited by ``max_cost``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.catalogue import in_usd, machine
from jobs.evaluate.config import EvaluateConfig
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.job.config import StepConfig
from orchestrator.job.estimate import Estimate
from orchestrator.job.outputs import Dataset, Output
from orchestrator.job.usage import Held, Meter, Spending
from orchestrator.spending import (
    GIVE_BACK_SECONDS,
    LOOK_SECONDS,
    SAVE_EVERY,
    Account,
    Accounts,
    OverCost,
    compared,
    expect,
    expected,
    spent,
)
from orchestrator.store.records import write_json_atomically
from orchestrator.store.step_folders import StepFolder, Store
from tests.orchestrator.workplace import SLOW, Workplace

SWEEP = '{"model": "some/model", "tasks": ["letters"], "resources": {"gpus": 2, "machine": "p5.48xlarge"}}'
MANY = SWEEP.replace('"gpus": 2', '"gpus": 2, "replicas": {"max": 8}')
SERVED = """{"tasks": ["letters"], "engine": "openai", "served_model": "some", "chat": {},
 "resources": {"server": {"url": "http://127.0.0.1:1/v1"}}}"""
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
    PRODUCES: ClassVar[type[Output]] = Dataset

    def demands(self) -> list[dict[str, float]]:
        return [{"CPU": 8.0, "GPU": 1.0}] * 16


def say(folder: StepFolder, held: Held, when: float) -> None:
    """What a step says of itself at a time."""
    write_json_atomically(folder.path / "held.json", {**asdict(held), "time": when}, durable=False)


def sweep() -> StepConfig:
    return EvaluateConfig.model_validate_json(SWEEP)


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
    meter = Meter(machine("p5.48xlarge"), clock)
    for more in (2, 6, -8):
        meter.take(more) if more > 0 else meter.give_back(-more)
        clock.now += 60
        say(folder, meter.held, clock.now)
        account.tick()
    assert account.spending.device_seconds == 60 * (2 + 8)
    # A machine of eight is rented whole, whether two of its cards are needed or eight.
    assert account.spending.usd == pytest.approx(2 * machine("p5.48xlarge").usd(8, 60))


def test_what_an_earlier_attempt_said_last_is_not_counted_again(folder: StepFolder) -> None:
    clock = Clock()
    say(folder, Held(2, 500.0, 5.0), when=7.0)
    account = Account(folder, sweep(), clock)
    account.start()
    clock.now += 10
    account.tick()
    assert account.spending.device_seconds == 0
    say(folder, Held(2, 20.0, 0.2, 300), when=8.0)
    account.tick()
    assert account.spending.device_seconds == 20
    assert account.spending.usd == 0.2
    say(folder, Held(0, 30.0, 0.3, 500), when=9.0)
    account.tick()
    account.start()
    say(folder, Held(0, 1.0, 0.1, 7), when=10.0)
    account.tick()
    assert account.spending.device_seconds == 31
    assert account.spending.tokens == 507


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0.01, 30), st.floats(0.01, 30), st.integers(0, 16)), min_size=1, max_size=8))
def test_an_account_is_exact_at_all_times_that_a_step_told_it_of_and_runs_on_between(
    stretches: list[tuple[float, float, int]],
) -> None:
    with TemporaryDirectory() as root:
        found = Store(Path(root)).step("step", "0" * 16)
        found.create({})
        clock = Clock()
        account = Account(found, sweep(), clock)
        account.start()
        meter, held, oracle = Meter(machine("p5.48xlarge"), clock), 0, 0.0
        for before, after, devices in stretches:
            clock.now += before  # it has more or less than it last said
            oracle += held * before
            meter.take(devices - held) if devices > held else meter.give_back(held - devices)
            held = devices
            say(found, meter.held, clock.now)
            account.tick()
            assert account.spending.device_seconds == pytest.approx(oracle)
            clock.now += after  # it says nothing, because it is busy, or was killed
            oracle += held * after
            account.tick()
            assert account.spending.device_seconds == pytest.approx(oracle)
        assert account.spending.usd == pytest.approx(meter.held.usd)


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


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 64), st.floats(0, 100)), max_size=20))
def test_a_meter_is_the_sum_of_devices_times_seconds_however_late_it_learns_of_them(
    grants: list[tuple[float, int, float]],
) -> None:
    clock = Clock()
    meter = Meter(machine("h100"), clock)
    oracle = 0.0
    for seconds, devices, ago in grants:
        clock.now += seconds
        meter.take(devices, ago)
        oracle += devices * ago
        clock.now += ago
        oracle += devices * ago
        meter.give_back(devices)
    assert meter.held.devices == 0
    assert meter.held.device_seconds == pytest.approx(oracle, abs=1e-9)  # seconds of a clock that shows thousands
    assert meter.held.usd == pytest.approx(machine("h100").usd(1, oracle))


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


@settings(max_examples=15)
@given(
    limit=st.floats(0.3, 1.5),
    looks=st.lists(st.floats(0.5, LOOK_SECONDS), min_size=1, max_size=9),
    growth=st.lists(st.integers(0, 16), min_size=1, max_size=5),
    gives_back=st.floats(0, GIVE_BACK_SECONDS),
)
def test_a_limit_is_never_passed_whatever_steps_come_to_hold_and_however_long_giving_it_back_takes(
    limit: float, looks: list[float], growth: list[int], gives_back: float
) -> None:
    with TemporaryDirectory() as root:
        folders = [Store(Path(root)).step(name, "0" * 16) for name in ("fixed", "sweep")]
        for folder in folders:
            folder.create({})
        clock = Clock()
        configs = (Fixed(), EvaluateConfig.model_validate_json(MANY))
        accounts = Accounts(
            dict(zip(("fixed", "sweep"), zip(folders, configs, strict=True), strict=True)), limit, clock
        )
        meter, held = Meter(machine("p5.48xlarge"), clock), 0
        fixed_usd = 0.0
        try:
            accounts.start("fixed")
            accounts.start("sweep")
            for number in range(60):
                passed = looks[number % len(looks)]
                clock.now += passed
                fixed_usd += machine("h100").usd(16, passed)
                devices = growth[number % len(growth)]
                say(folders[1], meter.held, clock.now)  # before it has more
                meter.take(devices - held) if devices > held else meter.give_back(held - devices)
                held = devices
                accounts.tick("fixed")
                accounts.tick("sweep")
                accounts.check()
        except OverCost:
            pass
        else:
            assert fixed_usd + meter.held.usd <= limit
        clock.now += gives_back
        if fixed_usd or held:
            fixed_usd += machine("h100").usd(16, gives_back)
        assert fixed_usd + meter.held.usd <= limit + 1e-9


def test_looks_that_come_late_are_reckoned_with(folder: StepFolder) -> None:
    clock = Clock()
    accounts = Accounts({"step": (folder, Fixed())}, machine("h100").usd(16, 60), clock)
    accounts.start("step")
    for passed in (1, 20):
        clock.now += passed
        accounts.tick("step")
        accounts.check()
    clock.now += 20
    accounts.tick("step")  # 41 s are spent, and another 20 until the next look
    with pytest.raises(OverCost):
        accounts.check()


def test_a_step_is_not_started_that_could_not_be_stopped_in_time(folder: StepFolder) -> None:
    seconds = LOOK_SECONDS + GIVE_BACK_SECONDS
    needs = machine("h100").usd(16, seconds)
    Accounts({"step": (folder, Fixed())}, 1.01 * needs).start("step")
    with pytest.raises(OverCost, match=r"\$0\.00 of .* is spent, and \$.* would be before what runs is given back"):
        Accounts({"step": (folder, Fixed())}, 0.99 * needs).start("step")
    # A sweep may come to hold all its replicas, and one that asks a server holds nothing.
    many, served = EvaluateConfig.model_validate_json(MANY), EvaluateConfig.model_validate_json(SERVED)
    with pytest.raises(OverCost):
        Accounts({"step": (folder, many)}, 0.99 * many.machine.usd(16, seconds)).start("step")
    Accounts({"step": (folder, served)}, 1e-9).start("step")


def test_an_estimate_is_compared_by_tokens_seconds_per_token_and_time_held(folder: StepFolder) -> None:
    assert compared(folder) == ""
    expect(folder, Estimate("", seconds=1800, device_hours=8, usd=55, device="GPU", tokens=1_000_000))
    clock = Clock()
    account = Account(folder, sweep(), clock)
    account.start()
    clock.now += HOUR
    say(folder, Held(0, 16 * HOUR, 110.0, 500_000), clock.now)
    account.tick()
    account.save()
    expect(folder, Estimate("", seconds=1, device_hours=1, usd=1, device="GPU"))
    assert expected(folder) == Spending(1800, 8 * HOUR, 55, "GPU", 1_000_000)
    assert compared(folder) == (
        "estimated 1,000,000 tokens at 0.029 GPU-seconds, 28,800 GPU-seconds held, $55.00; took 500,000 tokens at 0.12 "
        "GPU-seconds, 57,600 GPU-seconds held, $110: 2.00 times the tokens, 0.25 times the seconds per token, 0.50 "
        "times the time held, 0.50 times the cost"
    )


def test_what_is_not_counted_in_tokens_is_compared_by_time_held(folder: StepFolder) -> None:
    expect(folder, Estimate("", seconds=1800, device_hours=8, usd=55, device="GPU"))
    clock = Clock()
    account = Account(folder, Fixed(), clock)
    account.start()
    clock.now += HOUR
    account.tick()
    account.save()
    assert compared(folder) == (
        "estimated 28,800 GPU-seconds held, $55.00; took 57,600 GPU-seconds held, $110: 0.50 times the time held, 0.50 "
        "times the cost"
    )


@pytest.mark.parametrize("value", ["0", "-1", "much", ".inf", "true"])
def test_a_limit_that_is_no_amount_of_money_is_refused(workplace: Workplace, value: str) -> None:
    workplace.write(10)
    with pytest.raises(ExperimentError, match="max_cost"):
        load(workplace.file, (f"max_cost={value}",))
    assert load(workplace.file, ("max_cost=2",)).max_cost == 2.0


@pytest.mark.parametrize("ends", [True, False], ids=["the step ends", "the run is killed"])
def test_requests_that_were_cut_off_are_counted_at_their_most_and_once(folder: StepFolder, ends: bool) -> None:
    config, clock = EvaluateConfig.model_validate_json(SERVED), Clock()
    account = Account(folder, config, clock)
    account.start()
    clock.now += 1
    say(folder, Held(0, 0, 0.5, 10, 0.2), clock.now)
    account.tick()
    assert account.spending.usd == pytest.approx(0.5)
    assert account.ahead(0) == pytest.approx(0.2)
    if ends:
        account.stop()
        assert account.spending.usd == pytest.approx(0.7)
    for _ in range(2):
        account = Account(folder, config, clock)
        account.start()
        assert account.spending.usd == pytest.approx(0.7)
        assert account.ahead(0) == 0


def test_a_run_stops_before_its_max_cost_says_so_and_continues_with_a_larger_one(workplace: Workplace) -> None:
    workplace.write(SLOW // 2)
    limit = 0.0002  # 14 s of a core
    code, output = workplace.run("run", "words.yaml", "--set", f"max_cost={limit}")
    assert code == 3, output
    assert "max_cost: $" in output
    assert "with a larger max_cost continues" in output
    assert "Traceback" not in output
    assert workplace.status()["state"] == "cancelled"
    assert not list((workplace.step() / "leases").glob("*.json"))
    paid = spent(StepFolder(workplace.step()))
    assert paid is not None
    assert 0 < paid.usd <= limit
    code, output = workplace.run("status", "words.yaml", "--set", f"max_cost={limit}")
    said = " ".join(output.replace("│", " ").split())
    assert "max_cost: $" in said
    assert "of max_cost $0.00020" in said
    # Not a moment is bought beyond the limit by asking again.
    assert workplace.run("run", "words.yaml", "--set", f"max_cost={limit}")[0] == 3
    again = spent(StepFolder(workplace.step()))
    assert again is not None
    assert again.usd <= limit
    workplace.write(10)
    code, output = workplace.run("run", "words.yaml", "--set", "max_cost=1")
    assert code == 0, output
