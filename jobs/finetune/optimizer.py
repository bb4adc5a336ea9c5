"""AdamW with a linear warm-up and a cosine decay, as in the s1 paper."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW

from jobs.finetune.config import Config


def learning_rate(step: int, steps: int, config: Config) -> float:
    """The rate of optimizer step `step` of `steps`, counted from 0: up to the peak, then a half cosine towards 0.

    A function of the step alone, so there is no scheduler to save and restore.
    """
    rising = math.ceil(config.warmup * steps)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def build_optimizer(model: nn.Module, config: Config) -> AdamW:
    """AdamW over `model`'s parameters. Only matrices decay: norms and biases have nothing to gain from it."""
    groups = [
        {"params": list(_parameters(model, matrices=True)), "weight_decay": config.weight_decay},
        {"params": list(_parameters(model, matrices=False)), "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Uses `rate` in the next optimizer step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _parameters(model: nn.Module, *, matrices: bool) -> Iterable[nn.Parameter]:
    return (parameter for parameter in model.parameters() if (parameter.ndim >= 2) == matrices)
