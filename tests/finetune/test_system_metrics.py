"""A driver that does not answer costs its figures, never the training."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.finetune import system_metrics
from jobs.finetune.system_metrics import SystemMetrics


class NVMLError(Exception):
    pass


def driver(**failing: Callable[..., Any]) -> Any:
    """NVML with two cards."""
    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(used=40e9, total=80e9),
        "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=97),
        "nvmlDeviceGetPowerUsage": lambda card: 650_000,
    }
    return SimpleNamespace(NVMLError=NVMLError, **(answers | failing))


def lost(*arguments: Any) -> Any:
    raise NVMLError("GPU is lost")


def names(monkeypatch: pytest.MonkeyPatch, nvml: Any) -> set[str]:
    monkeypatch.setattr(system_metrics, "pynvml", nvml)
    return set(SystemMetrics(every=0).due())


def test_each_card_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"system/gpu_0_utilization_percentage", "system/gpu_1_power_usage_watts"} <= names(monkeypatch, driver())


@pytest.mark.parametrize("call", [name for name in vars(driver()) if name.startswith("nvml")])
def test_whichever_call_fails_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    told = names(monkeypatch, driver(**{call: lost}))
    assert "system/cpu_utilization_percentage" in told
    assert not any("gpu_" in name for name in told)


def test_one_lost_card_does_not_hide_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    told = names(monkeypatch, driver(nvmlDeviceGetPowerUsage=lambda card: lost() if card == 0 else 1))
    assert "system/gpu_1_power_usage_watts" in told
    assert not any("gpu_0" in name for name in told)
