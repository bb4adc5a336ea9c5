"""What steps and machines tell of themselves."""

from __future__ import annotations

import psutil
import pytest
import torch
from transformers import Qwen2Config

from cluster.catalogue import machine
from jobs.architecture import find
from jobs.finetune.system_metrics import SystemMetrics
from jobs.finetune.utilisation import Utilisation, utilisation
from tests.finetune.gang import config


def test_mfu_counts_six_operations_a_weight_and_the_lower_half_of_attention() -> None:
    model = find("Qwen/Qwen2.5-32B-Instruct")
    peak = machine("h100").card.tflops * 1e12
    lengths = [1000, 3000]
    needed = 6 * model.multiplied * 4000 + 6 * 64 * 5120 * (1000**2 + 3000**2)
    assert Utilisation(model, peak, adapters=False).mfu(lengths, 10.0, 16) == pytest.approx(needed / (10 * 16 * peak))
    assert Utilisation(model, peak, adapters=True).mfu(lengths, 10.0, 16) < needed / (10 * 16 * peak)


def test_no_mfu_is_made_up_for_a_machine_whose_peak_is_not_known() -> None:
    assert utilisation(Qwen2Config(), config(precision="bf16"), torch.device("cpu")) is None


def test_the_machine_is_measured_when_due_under_mlflow_s_names() -> None:
    metrics = SystemMetrics(every=1000)
    values = metrics.due()
    assert metrics.due() == {}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= values.keys()
    assert 0 <= values["system/cpu_utilization_percentage"] <= 100
    assert 0 < values["system/system_memory_usage_megabytes"] * 1e6 < psutil.virtual_memory().total
