"""Fully sharded training: every worker holds a slice of each layer and gathers the layer while it is needed.

Weights, gradients and their reduction are float32; on GPUs the computation is bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.optim import Optimizer

from jobs.finetune.model import CausalLoss, decoder_layers


class Trained:
    """A model and its optimizer as checkpoints see them: sharded tensors, by the names of the model's parameters."""

    def __init__(self, model: nn.Module, optimizer: Optimizer):
        self._model = model
        self._optimizer = optimizer

    def state(self) -> dict[str, Any]:
        weights, moments = get_state_dict(self._model, self._optimizer)
        return {"model": weights, "optimizer": moments}

    def load_state(self, state: dict[str, Any]) -> None:
        set_state_dict(
            self._model, self._optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )


def shard(loss: CausalLoss, device: torch.device) -> None:
    """Shards `loss` in place over the default process group, in which every process has the same weights.

    Gradients come out summed over the workers, not averaged: the loss is already divided by the tokens of all of them.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    precision = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    for layer in decoder_layers(loss.model):
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    fully_shard(loss, mesh=mesh, mp_policy=precision)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has neither the average nor the scaled sum that a factor would otherwise be turned into.
            module.set_force_sum_reduction_for_comms(True)


def whole_weights(loss: CausalLoss) -> Iterator[tuple[str, Tensor]]:
    """The weights by transformers' names, whole and on the CPU, on worker 0. Called by all workers."""
    weights: dict[str, Any] = get_model_state_dict(
        loss, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return ((name.removeprefix("model."), weight) for name, weight in weights.items())
