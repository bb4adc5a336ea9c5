"""Fully sharded training: every worker holds a slice of each layer and gathers the layer while it is needed.

The model is made without memory, sharded, and then filled weight by weight (:func:`fill`), so no worker ever holds more
than its slices and one weight. With sharding groups (HSDP) the workers of a group, such as those of one node, hold the
model together; only gradients cross between groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from jobs.finetune.activations import checkpoint_activations
from jobs.finetune.batches import Batch
from jobs.finetune.compiling import compile_layers
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.lora import merged
from jobs.finetune.model import Blueprint, CausalLoss, Precision, decoder_layers, set_buffers
from jobs.finetune.optimizer import build_optimizer, give_averages, set_learning_rate

_PREFIX = "model."
"""What :class:`CausalLoss` puts before transformers' names."""


class Fsdp:
    """A :class:`jobs.finetune.strategy.Strategy`: torch's FSDP2."""

    def __init__(self, config: FinetuneConfig, blueprint: Blueprint, device: torch.device):
        """Builds the model over the default process group. Called by all workers; raises StepError as `blueprint`."""
        self._config = config
        self._blueprint = blueprint
        self._loss = CausalLoss(blueprint.empty())
        resources = config.resources
        checkpoint_activations(self._loss.model, resources.activation_checkpointing)
        if resources.compile:
            compile_layers(self._loss.model, device)
        shard(self._loss, _mesh(device, resources.shard_group), blueprint.precision, offload=resources.offload)
        fill(self._loss, blueprint, device, torch.device("cpu") if resources.offload else device)
        matrices = {name for name, weight in self._loss.named_parameters() if weight.ndim >= 2}
        self._optimizer = build_optimizer(self._loss, matrices, config)
        give_averages(self._optimizer, (weight for weight in self._loss.parameters() if weight.requires_grad))
        self._loss.train()

    def backward(self, batch: Batch, learned: int, *, last: bool) -> Tensor:
        mean = self._loss(batch) / learned
        mean.backward()
        return mean.detach()

    def update(self, rate: float) -> float:
        set_learning_rate(self._optimizer, rate)
        trained = [weight for weight in self._loss.parameters() if weight.requires_grad]
        total = torch.nn.utils.clip_grad_norm_(trained, self._config.max_gradient_norm)
        norm = (total.full_tensor() if isinstance(total, DTensor) else total).item()
        self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Tensor:
        self._loss.eval()
        try:
            loss: Tensor = self._loss(batch)
            return loss
        finally:
            self._loss.train()
            # Without a backward pass to do it, the outermost weights would stay gathered, and as they are now.
            for module in self._loss.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def state(self) -> dict[str, Any]:
        weights, moments = get_state_dict(self._loss, self._optimizer, options=self._options)
        if self._config.lora is not None:
            # Frozen weights are where they came from.
            trained = {name for name, weight in self._loss.named_parameters() if weight.requires_grad}
            weights = {name: weight for name, weight in weights.items() if name in trained}
        return {"model": weights, "optimizer": moments}

    def load_state(self, state: dict[str, Any]) -> None:
        set_state_dict(
            self._loss,
            self._optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=self._options,
        )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        lora = self._config.lora
        whole = self._whole_weights()
        for name, weight in whole if lora is None else merged(whole, lora):
            yield name, weight.to(self._blueprint.precision.compute)

    @property
    def _options(self) -> StateDictOptions:
        return StateDictOptions(strict=self._config.lora is None)

    def _whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self._loss.named_parameters():
            sharded = weight.detach()
            assert isinstance(sharded, DTensor)
            whole = sharded.full_tensor()
            yield name.removeprefix(_PREFIX), whole.cpu() if dist.get_rank() == 0 else whole.new_empty(0, 0)


def _mesh(device: torch.device, group: int | None) -> DeviceMesh:
    workers = dist.get_world_size()
    if group is None or group == workers:
        return init_device_mesh(device.type, (workers,))
    return init_device_mesh(device.type, (workers // group, group), mesh_dim_names=("replicate", "shard"))


def shard(loss: CausalLoss, mesh: DeviceMesh, precision: Precision, *, offload: bool) -> None:
    """Shards `loss` in place over `mesh`, layer by layer.

    Gradients come out summed over the workers, not averaged: the loss is already divided by the tokens of all of them.
    """
    types = MixedPrecisionPolicy(param_dtype=precision.compute, reduce_dtype=precision.master)
    home = CPUOffloadPolicy() if offload and mesh.device_type != "cpu" else OffloadPolicy()
    for layer in decoder_layers(loss.model):
        fully_shard(layer, mesh=mesh, mp_policy=types, offload_policy=home)
    fully_shard(loss, mesh=mesh, mp_policy=types, offload_policy=home)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has neither the average nor the scaled sum that a factor would otherwise be turned into.
            module.set_force_sum_reduction_for_comms(True)


def fill(loss: CausalLoss, blueprint: Blueprint, device: torch.device, home: torch.device) -> None:
    """Gives the sharded `loss` memory on `home` and its weights, each dealt out by worker 0 before it reads the next.

    The slices travel over `device`, the process group's.
    """
    buffers = dict(loss.named_buffers())
    loss.to_empty(device=home)
    loss.model.tie_weights()
    set_buffers(loss, buffers, device)
    for name, whole in blueprint.values(loss.model, device):
        weight = loss.model.get_parameter(name)
        assert isinstance(weight, DTensor)
        slices = distribute_tensor(whole, weight.device_mesh, weight.placements)
        with torch.no_grad():
            weight.to_local().copy_(slices.to_local())
