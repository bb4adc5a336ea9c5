"""Fully sharded training: every worker holds a slice of each layer and gathers the layer while it is needed.

Weights, gradients and their reduction are float32; on GPUs the computation is bfloat16.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from jobs.finetune.model import CausalLoss, decoder_layers


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
