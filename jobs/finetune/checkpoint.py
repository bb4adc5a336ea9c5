"""Checkpoints: the sharded weights and the optimizer's state, at an optimizer step.

Nothing else needs saving. The learning rate, the samples and the random numbers of a step are functions of its number,
so a run that continues from a checkpoint does exactly what the undisturbed one did. Each worker writes its own shards;
a gang of another size can read them.

A checkpoint is written under a temporary name and renamed when all of it is there, so one that was torn by a crash is
never taken for one. Only the latest is kept.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

_NAME = re.compile(r"step-(\d{8})")
_WRITTEN_LAST = ".metadata"


def save(folder: Path, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Writes the state after `step` optimizer steps, then drops older checkpoints. Called by all workers."""
    complete = folder / f"step-{step:08d}"
    partial = complete.with_suffix(".partial")
    if dist.get_rank() == 0:
        for leftover in folder.glob("*.partial"):
            shutil.rmtree(leftover)
    dist.barrier()
    dcp.save(_state(model, optimizer), checkpoint_id=partial)
    dist.barrier()
    if dist.get_rank() == 0:
        partial.rename(complete)
        for older, path in _complete(folder):
            if older < step:
                shutil.rmtree(path)
    dist.barrier()


def restore(folder: Path, model: nn.Module, optimizer: Optimizer) -> int:
    """Loads the latest checkpoint in `folder`. The optimizer steps it has behind it; 0 where there is none."""
    step, path = max(_complete(folder), default=(0, None))
    if path is None:
        return 0
    state = _state(model, optimizer)
    dcp.load(state, checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return step


def _complete(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.glob("step-*"):
        match = _NAME.fullmatch(path.name)
        if match and (path / _WRITTEN_LAST).is_file():
            yield int(match[1]), path


def _state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments}
