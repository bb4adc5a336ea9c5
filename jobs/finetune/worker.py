"""What one worker of a gang does, from a model's name and a data file to a trained model: whatever started the gang.

:mod:`jobs.finetune.run` calls it in the workers of Ray Train, :mod:`jobs.finetune.__main__` in those of ``torchrun``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from jobs.architecture import UnknownArchitecture, from_config
from jobs.finetune import network
from jobs.finetune.assignment import Assignment
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.determinism import same_bits
from jobs.finetune.export import export
from jobs.finetune.faults import is_out_of_memory, out_of_memory
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.leaving import staying
from jobs.finetune.loop import save, train
from jobs.finetune.measures import StepReport
from jobs.finetune.model import Blueprint, draw
from jobs.finetune.planning.estimate import setting_of
from jobs.finetune.prepare import prepared
from jobs.finetune.recorder import Recorder
from jobs.finetune.strategy import Strategy
from jobs.finetune.tokenizer import load_tokenizer
from jobs.finetune.utilisation import utilisation
from jobs.transformers_classes import PretrainedConfig
from orchestrator.job.errors import StepError
from orchestrator.store.errors import StoreError

_TIGHT = 0.9
"""Share of the memory above which fragmentation is to be avoided."""
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


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
