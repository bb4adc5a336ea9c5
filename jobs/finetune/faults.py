"""What the errors of a device mean: memory that does not suffice is its user's affair, a card that fails its machine's.

The first comes again wherever the step runs, so it ends the step, with what the plan reckoned with, what was taken, and
the nearest settings that fit. The second is worth another attempt: nothing is wrong with the step.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.architecture import UnknownArchitecture, from_config
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.measures import peak_memory
from jobs.finetune.planning.estimate import setting_of
from jobs.finetune.planning.fitting import Setting, nearest
from orchestrator.job.errors import StepError

if TYPE_CHECKING:
    import torch

    from jobs.transformers_classes import PretrainedConfig

_NO_MEMORY = re.compile(
    r"out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|can't allocate memory", re.I
)
"""By CUDA and its libraries, NCCL (``Cuda failure 2 'out of memory'``), and torch where it allocates for CPUs."""

_PROGRAM_S = re.compile(
    r"device-side assert|illegal memory access|illegal instruction|misaligned address|invalid (?!device ordinal)|"
    r"operation not supported|no kernel image|too many resources requested|PTX|symbol",
    re.I,
)
"""CUDA's errors that a program makes by itself: they would come again."""

_MACHINE_S = re.compile(
    r"uncorrectable (ECC|NVLink)|Nvlink uncorrectable|GPU is lost|fallen off the bus|No CUDA GPUs are available|"
    r"no CUDA-capable device|devices? .*busy or unavailable|system not yet initialized|"
    r"CUDA driver initialization failed",
    re.I,
)
"""What says of itself that a card, its link or its driver failed, whichever type the error has."""

_TRIED = re.compile(r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or a process on CPUs, had not the memory that was asked for."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def is_hardware_fault(error: BaseException) -> bool:
    """Whether a card failed, such as by an uncorrectable ECC error: no fault of what ran on it."""
    import torch

    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    text = str(error)
    broken = _MACHINE_S.search(text) is not None
    return broken or (isinstance(error, torch.AcceleratorError) and _PROGRAM_S.search(text) is None)


def out_of_memory(
    error: BaseException, config: FinetuneConfig, architecture: PretrainedConfig, device: torch.device
) -> StepError:
    """What to tell of memory that did not suffice on this worker: planned, taken and asked for, and what would fit."""
    import torch.distributed as dist

    setting = replace(setting_of(config), workers=dist.get_world_size())
    taken, more = peak_memory(device), tried(error)
    has = _size_of(device, setting)
    asked = f" when {_size(more)} more were asked for" if more else ""
    took = f"it had {_size(has)}, took {_size(taken)} at its peak{asked}"
    said = f"resources: worker {dist.get_rank()} ran out of memory: {took}"
    try:
        model = from_config(architecture.to_dict())
    except UnknownArchitecture as unknown:
        return StepError(f"{said}; what is planned is not known ({unknown}): {_ANY}")
    need = setting.needs(model)
    # What is looked for must fit with as much more than is planned as was taken, and on this card.
    measured = max(1.0, (taken + more) / need.total) * setting.available / has
    fitting = nearest(model, replace(setting, measured=measured))
    remedy = f"these would fit: {'; '.join(fitting)}" if fitting else _ANY
    return StepError(f"{said}; the plan expects {_size(need.total)}, {need.moment}: {remedy}")


_ANY = (
    "lower resources.tokens_in_memory or block_size, set resources.activation_checkpointing: full or "
    "resources.offload: true, or take more workers or a larger card"
)


def out_of_memory_somewhere(error: BaseException) -> StepError:
    """The same where no more is known than that a worker said so."""
    return StepError(f"resources: a worker ran out of memory ({' '.join(str(error).split())[:200]}): {_ANY}")


def tried(error: BaseException) -> float:
    """Bytes that were asked for in vain; 0 where the error does not say."""
    match = _TRIED.search(str(error))
    return float(match[1]) * _UNITS[match[2]] if match else 0.0


def _size_of(device: torch.device, setting: Setting) -> float:
    """Bytes that tensors can have: of the card itself, which need not be the one that was planned with."""
    if device.type != "cuda":
        return setting.available
    import torch

    return torch.cuda.get_device_properties(device).total_memory - setting.machine.card.reserved


def _size(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"
