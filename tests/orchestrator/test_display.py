"""What a run and ``status`` show of a step's progress, and when it will be done."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import display
from orchestrator.display import Display, duration
from orchestrator.job.context import StepContext
from orchestrator.progress import _eta
from orchestrator.store.step_folders import Store


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(display, "time", found)
    return found


def logged(clock: Clock, told: list[tuple[float, float, float, str, float | None]]) -> list[str]:
    """The lines of a log that says (time, done, total, unit, left)."""
    out = io.StringIO()
    with Display(Console(file=out, width=120)) as shown:
        shown.started("sweep", "", 0)
        for now, *progress in told:
            clock.now = now
            shown.progress("sweep", *progress)
    return out.getvalue().splitlines()[1:]


def test_the_time_that_a_step_expects_is_shown_and_else_its_share_tells(clock: Clock) -> None:
    lines = logged(clock, [(10, 100, 1000, "tokens, 0/4 units", 77.0), (20, 200, 1000, "tokens, 0/4 units", None)])
    assert lines == [
        "sweep: 100/1,000 tokens, 0/4 units (10%), 10 s, ETA 1 min 17 s",
        "sweep: 200/1,000 tokens, 0/4 units (20%), 20 s, ETA 1 min 20 s",
    ]


def test_neither_loading_nor_what_was_there_before_is_taken_for_speed(clock: Clock) -> None:
    told = [(float(second), 500.0, 1000.0, "steps", None) for second in range(6, 601, 6)]
    assert not any("ETA" in line for line in logged(clock, told))
    assert logged(clock, [*told, (610, 600, 1000, "steps", None)])[-1].endswith(f"ETA {duration(40)}")


def test_bytes_that_were_fetched_are_not_taken_for_tokens(clock: Clock) -> None:
    told = [(6.0, 1e9, 65e9, "bytes of the model", None), (12.0, 65e9, 65e9, "bytes of the model", None)]
    lines = logged(clock, [*told, (20.0, 10.0, 1000.0, "tokens", None), (30.0, 20.0, 1000.0, "tokens", None)])
    assert "ETA" not in lines[2]
    assert lines[3].endswith(f"ETA {duration(980)}")


def test_status_counts_down_from_what_the_step_last_expected(tmp_path: Path) -> None:
    folder = Store(tmp_path).step("sweep", "0" * 16)
    folder.create({})
    StepContext("e", "sweep", "0" * 16, folder.path, tmp_path).progress(10, 1000, "tokens", 500.0)
    told = folder.read_progress()
    assert _eta({**told, "time": time.time() - 20}, 100.0) == duration(480)
    assert _eta({**told, "time": time.time() - 900}, 100.0) == duration(0)
    assert _eta({**told, "left": None}, 100.0) == duration(9900)
