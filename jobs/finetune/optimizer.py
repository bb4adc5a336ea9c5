"""AdamW with a linear warm-up and a cosine decay, as in the s1 paper."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.deepspeed_config import EPSILON

AVERAGES = ("exp_avg", "exp_avg_sq")
"""torch's names for the averages of the gradient and of its square."""


def learning_rate(step: int, steps: int, config: FinetuneConfig) -> float:
    """The rate of optimizer step `step` of `steps`, counted from 0: up to the peak, then a half cosine towards 0.

    A function of the step alone, so there is no scheduler to save and restore.
    """
    rising = math.ceil(config.warmup * steps)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def build_optimizer(model: nn.Module, matrices: Container[str], config: FinetuneConfig) -> AdamW:
    """AdamW over what of `model` is trained. Only `matrices` decay: norms and biases have nothing to gain from it.

    They are named, because a sharded weight does not always have its shape.
    """
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for name, weight in trained if name in matrices], "weight_decay": config.weight_decay},
        {"params": [weight for name, weight in trained if name not in matrices], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=EPSILON, fused=True)


def give_averages(optimizer: Optimizer, weights: Iterable[Tensor]) -> None:
    """Gives AdamW the averages that its first step would: a checkpoint needs somewhere to be loaded into.

    torch's own way to that end takes a step at rate 0, which counts: what follows is corrected for a bias that is not
    there, and the first real step is a quarter too short.
    """
    for weight in weights:
        optimizer.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            **{name: torch.zeros_like(weight) for name in AVERAGES},
        }


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Uses `rate` in the next optimizer step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
