"""What one worker of a gang does, from a model's name and a data file to a trained model: whatever started the gang.

:mod:`jobs.finetune.run` calls it in the workers of Ray Train, :mod:`jobs.finetune.__main__` in those of ``torchrun``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PretrainedConfig

from jobs.architecture import UnknownArchitecture, from_config
from jobs.finetune import network
from jobs.finetune.checkpoint_files import CheckpointFolder, checkpoints_of
from jobs.finetune.config import FinetuneConfig, RandomModel
from jobs.finetune.deepspeed_config import deepspeed_settings
from jobs.finetune.determinism import same_bits
from jobs.finetune.export import export
from jobs.finetune.faults import is_out_of_memory, out_of_memory
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.loop import save, staying, train
from jobs.finetune.measures import StepReport
from jobs.finetune.model import Blueprint, draw, load_tokenizer, stored_weights
from jobs.finetune.planning.estimate import setting_of
from jobs.finetune.prepare import model_source, prepared
from jobs.finetune.recorder import Recorder
from jobs.finetune.strategy import Strategy
from jobs.finetune.utilisation import utilisation
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.store.storage import StoreError

DATA = "data"
"""What is prepared for all workers, by the name under which they share it."""
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Of the process group, by device. Checkpoints and what is offloaded travel between CPUs on GPU machines too."""

_TIGHT = 0.9
"""Share of the memory above which fragmentation is to be avoided."""
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@dataclass(frozen=True)
class Assignment:
    """What every worker is told. Its paths are absolute: workers need not share a working folder."""

    config: FinetuneConfig
    context: StepContext
    deepspeed: Mapping[str, Any] | None
    """DeepSpeed's settings, where it is the strategy."""

    @property
    def model(self) -> RandomModel | str:
        """A random model, a folder of the machine that asks, or a hub name."""
        return model_source(self.config, self.context)

    @property
    def data(self) -> Path:
        """What was prepared to be trained on (:mod:`jobs.finetune.prepare`)."""
        return self.context.shared(DATA)

    @property
    def checkpoints(self) -> CheckpointFolder:
        return checkpoints_of(self.config, self.context)


def assign(config: FinetuneConfig, context: StepContext) -> Assignment:
    """The assignment for a step. Raises StepError for a ds_config.json that cannot be used."""
    context = dataclasses.replace(context, storage=context.storage.absolute())
    deepspeed = deepspeed_settings(config) if config.strategy == "deepspeed" else None
    return Assignment(config, context, deepspeed)


def work(assignment: Assignment, device: torch.device, leaving: Callable[[], bool] = staying) -> None:
    """Trains, and writes the model to the step's output. Called by all workers of an initialised process group.

    Raises StepError for what the user can put right, and Leaving when `leaving` says that a machine is about to go.
    """
    with same_bits(assignment.config.resources.deterministic):
        _work(assignment, device, leaving)


def _work(assignment: Assignment, device: torch.device, leaving: Callable[[], bool]) -> None:
    config = assignment.config
    resources = config.resources
    torch.set_num_threads(resources.cpus_per_worker)
    cards = dist.get_world_size() * int(config.devices(config.demands()[0]))
    if dist.get_world_size() > 1 and cards and (resources.gpus_per_worker or resources.machine):
        network.check(device, config.machine, cards, nodes=network.nodes())
    model, data = assignment.model, assignment.data
    tokenizer = load_tokenizer(model, config.revision)
    blueprint = draw(model, tokenizer, config)
    if device.type == "cuda" and is_tight(config, blueprint.architecture):
        expand_segments()
    recorder = Recorder(config, assignment.context, data) if dist.get_rank() == 0 else None
    try:
        strategy = make_strategy(config, blueprint, device, assignment.deepspeed)
        steps = train(
            config,
            strategy,
            prepared(data),
            padding=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            device=device,
            checkpoints=assignment.checkpoints,
            report=recorder or _say_nothing,
            busy=utilisation(blueprint.architecture, config, device),
            leaving=leaving,
        )
        try:
            whole, context = strategy.weights(), assignment.context
            export(whole, blueprint.architecture, tokenizer, context.output, context.deliver)
        except (StepError, StoreError):
            save(config, strategy, assignment.checkpoints, steps)
            raise
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, config, blueprint.architecture, device) from error
        raise
    if recorder is not None:
        recorder.made_model()
    dist.barrier()


def fetch(assignment: Assignment) -> None:
    """Brings the weights of a hub's model to this machine. For worker 0, before it joins others: they would wait for
    it in an operation that has a time limit. Raises StepError where they cannot be had."""
    if isinstance(assignment.model, str):
        stored_weights(assignment.model, assignment.config.revision)


def is_tight(config: FinetuneConfig, architecture: PretrainedConfig) -> bool:
    """Whether the plan takes so much of a card that what is free in pieces would be missed."""
    try:
        setting = setting_of(config)
        return setting.needs(from_config(architecture.to_dict())).total > _TIGHT * setting.available
    except UnknownArchitecture:
        return False


def expand_segments() -> None:
    """Has torch put tensors into segments that grow, which leaves no holes between them. Before the first tensor, and
    unless the user has chosen how torch allocates."""
    if not any(os.environ.get(name) for name in _ALLOCATOR):
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
        print("Memory is tight: torch allocates in expandable segments", flush=True)


def make_strategy(
    config: FinetuneConfig, blueprint: Blueprint, device: torch.device, deepspeed: Mapping[str, Any] | None
) -> Strategy:
    """The model in memory, divided among the workers as `config` says. Called by all of them."""
    if deepspeed is None:
        return Fsdp(config, blueprint, device)
    # Takes seconds to import.
    from jobs.finetune.deepspeed import DeepSpeed

    return DeepSpeed(config, blueprint, device, deepspeed)


def _say_nothing(report: StepReport) -> None:
    pass
