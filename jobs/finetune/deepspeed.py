"""DeepSpeed's ZeRO behind the loop: its engine shards the model, reduces gradients, clips them and moves the weights.

The engine's own accounts of batches are not used: how many micro-batches a step has differs from step to step, so it is
told with each whether it is the last. Gradients are averaged over workers there; the loss is multiplied by their number
so that they add up, as the loop has it.

Imported only where the strategy is chosen: importing DeepSpeed takes seconds and looks for a compiler.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from jobs.finetune.activations import checkpoint_activations
from jobs.finetune.batches import Batch
from jobs.finetune.compiling import compile_layers
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.lora import merged
from jobs.finetune.model import Blueprint, CausalLoss, set_buffers
from jobs.finetune.optimizer import build_optimizer, set_learning_rate
from orchestrator.job.errors import StepError

_OWN_COMMUNICATION = "deepspeed_shm_comm"


class DeepSpeed:
    """A :class:`jobs.finetune.strategy.Strategy`: ZeRO stage 2 or 3."""

    def __init__(self, config: FinetuneConfig, blueprint: Blueprint, device: torch.device, settings: Mapping[str, Any]):
        """Builds the model over the default process group, with `settings` as DeepSpeed's config.

        Called by all workers. Raises StepError as `blueprint`, and where DeepSpeed refuses the settings.
        """
        if device.type == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        # Once per collective of a name that torch has replaced, in every step.
        warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
        import deepspeed
        from deepspeed.runtime.config import DeepSpeedConfigError

        from jobs.finetune.zero_state import ZeroState

        # Its own all-reduce for CPUs is C++ that is compiled when first used; gloo does as well.
        deepspeed.ops.__compatible_ops__[_OWN_COMMUNICATION] = False
        deepspeed.init_distributed(auto_mpi_discovery=False, dist_init_required=False)

        self._config = config
        self._stage: int = settings["zero_optimization"]["stage"]
        settings = {**settings, "train_batch_size": dist.get_world_size()}
        loss = CausalLoss(blueprint.empty())
        matrices = {name for name, weight in loss.named_parameters() if weight.ndim >= 2}
        buffers = dict(loss.named_buffers())
        checkpoint_activations(loss.model, config.resources.activation_checkpointing)
        try:
            _fill(loss.model, blueprint, device, settings if self._stage == 3 else None)
            if config.resources.compile:
                compile_layers(loss.model, device)
            optimizer = build_optimizer(loss, matrices, config)
            self._engine, _, _, _ = deepspeed.initialize(
                model=loss, optimizer=optimizer, config=settings, dist_init_required=False
            )
        except (AssertionError, DeepSpeedConfigError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise StepError(f"resources.deepspeed: DeepSpeed refuses its settings ({reason}): correct them") from error
        # ZeRO-2 has turned them to bfloat16, in which the angles of far positions are wrong.
        set_buffers(loss, buffers, device)
        self._loss = loss
        self._compute = blueprint.precision.compute
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        self._state = ZeroState(loss, self._engine.optimizer, mesh, self._stage)
        self._engine.train()

    def backward(self, batch: Batch, learned: int, *, last: bool) -> Tensor:
        self._engine.set_gradient_accumulation_boundary(last)
        mean = self._engine(batch) / learned
        self._engine.backward(mean * dist.get_world_size(), scale_wrt_gas=False)
        return mean.detach()

    def update(self, rate: float) -> float:
        set_learning_rate(self._engine.optimizer, rate)
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        return norm if norm >= 0 else math.inf  # DeepSpeed has -1 for one that is not a number.

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Tensor:
        self._engine.eval()
        try:
            loss: Tensor = self._engine(batch)
            return loss
        finally:
            self._engine.train()

    def state(self) -> dict[str, Any]:
        return self._state.read()

    def load_state(self, state: dict[str, Any]) -> None:
        self._state.write(state)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        lora = self._config.lora
        whole = self._whole_weights()
        for name, weight in whole if lora is None else merged(whole, lora):
            yield name, weight.to(self._compute)

    def _whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.runtime.zero import GatheredParameters

        for name, weight in self._loss.model.named_parameters():
            with GatheredParameters([weight], enabled=self._stage == 3):
                whole = weight.detach()
                yield name, whole.clone().cpu() if dist.get_rank() == 0 else whole.new_empty(0, 0)


def _fill(model: nn.Module, blueprint: Blueprint, device: torch.device, settings: dict[str, Any] | None) -> None:
    """Replaces the weights of `model`, which have no memory, by what worker 0 reads, in the computation's precision.

    With `settings`, those of ZeRO-3, each is divided among the workers before the next is read.
    """
    from deepspeed.runtime.zero import Init

    owners: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            owners.setdefault(weight, []).append((module, name))
    for name, whole in blueprint.values(model, device):
        empty = model.get_parameter(name)
        weight = nn.Parameter(whole.to(blueprint.precision.compute), requires_grad=empty.requires_grad)
        for module, attribute in owners[empty]:
            setattr(module, attribute, weight)
        if settings is None:
            dist.broadcast(weight.data, src=0)
        else:
            Init(module=nn.ParameterList([weight]), config_dict_or_path=settings)
