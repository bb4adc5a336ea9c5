from __future__ import annotations

import pytest
from torch import nn

from jobs.finetune.optimizer import build_optimizer, learning_rate, set_learning_rate
from tests.finetune.gang import config


def test_the_rate_rises_linearly_to_its_peak_then_falls_to_almost_nothing() -> None:
    recipe = config(learning_rate=1e-5, warmup=0.05)
    rates = [learning_rate(step, 315, recipe) for step in range(315)]
    assert rates[0] == pytest.approx(1e-5 / 16)
    assert rates[15] == rates[16] == 1e-5
    assert rates[:16] == sorted(rates[:16])
    assert rates[16:] == sorted(rates[16:], reverse=True)
    assert rates[16 + 299 // 2] == pytest.approx(0.5e-5, rel=0.02)
    assert 0 < rates[-1] < 1e-9


def test_without_warmup_the_first_rate_is_the_peak() -> None:
    assert learning_rate(0, 10, config(learning_rate=1e-3, warmup=0.0)) == 1e-3


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = build_optimizer(model, {"0.weight"}, config(weight_decay=0.1, betas=[0.8, 0.9]))
    decaying, others = optimizer.param_groups
    assert [tuple(parameter.shape) for parameter in decaying["params"]] == [(4, 3)]
    assert len(others["params"]) == 3
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert decaying["betas"] == (0.8, 0.9)
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
