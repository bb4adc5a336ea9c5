"""What a ZeRO optimizer holds, as shards by name that ``torch.distributed.checkpoint`` saves and loads.

DeepSpeed's own checkpoints are a file per worker that no other number of workers can read, and are written while
training waits. Here each trained weight and its averages are one row of numbers, of which worker r of w has the r-th
slice of ``ceil(n / w)``: how ZeRO-3 holds it, and what ZeRO-2 is brought into. So checkpoints are saved as everywhere
else, and another number of workers, or the other stage, continues from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_local_fp32_param,
    safe_get_local_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from jobs.finetune.optimizer import AVERAGES, give_averages

_WEIGHT = "weight"


class ZeroState:
    """The weights, averages and step count of an engine's optimizer, which is AdamW."""

    def __init__(self, module: nn.Module, zero_optimizer: Any, mesh: DeviceMesh, stage: int):
        """Gives the averages, which would come with the first step, their memory already: they may be loaded."""
        self._trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        self._adam: torch.optim.Optimizer = zero_optimizer.optimizer
        self._mesh = mesh
        self._shards: _Stage2 | _Stage3 = _Stage3() if stage == 3 else _Stage2(zero_optimizer)
        flat = "fp32_partitioned_groups_flat" if stage == 3 else "single_partition_of_fp32_groups"
        give_averages(self._adam, getattr(zero_optimizer, flat))

    def read(self) -> dict[str, Any]:
        """All of it, by name: this worker's slices, which are copies."""
        step = next(iter(self._adam.state.values()))["step"]
        by_kind = {kind: dict(self._rows(kind)) for kind in (_WEIGHT, *AVERAGES)}
        return {"model": by_kind.pop(_WEIGHT), "optimizer": {**by_kind, "step": step.clone()}}

    def write(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`read` returned, and a checkpoint filled."""
        for name, weight in self._trained:
            self._shards.put(weight, _WEIGHT, state["model"][name])
            for key in AVERAGES:
                self._shards.put(weight, key, state["optimizer"][key][name])
        for averages in self._adam.state.values():
            averages["step"].copy_(state["optimizer"]["step"])

    def _rows(self, kind: str) -> Iterator[tuple[str, DTensor]]:
        for name, weight in self._trained:
            length = self._shards.length(weight)
            yield (
                name,
                DTensor.from_local(
                    self._shards.get(weight, kind),
                    self._mesh,
                    [Shard(0)],
                    run_check=False,
                    shape=torch.Size((length,)),
                    stride=(1,),
                ),
            )


def _slice(length: int) -> tuple[int, int]:
    """Where this worker's slice of a row begins, and its length, which may be 0."""
    each = math.ceil(length / dist.get_world_size())
    start = min(each * dist.get_rank(), length)
    return start, min(each, length - start)


class _Stage3:
    """Every weight is divided; the last worker's slice is padded."""

    def length(self, weight: Any) -> int:
        return int(weight.ds_numel)

    def get(self, weight: Any, kind: str) -> Tensor:
        padded: Tensor = (
            safe_get_local_fp32_param(weight) if kind == _WEIGHT else safe_get_local_optimizer_state(weight, kind)
        )
        # A copy: torch cannot stage a DTensor whose slice begins in the middle of a storage. It lives between two
        # steps, when the activations' memory is free.
        return padded.detach()[: _slice(self.length(weight))[1]].clone()

    def put(self, weight: Any, kind: str, row: DTensor) -> None:
        mine = row.to_local()
        padded = mine.new_zeros(weight.ds_tensor.ds_numel)
        padded[: len(mine)] = mine
        if kind == _WEIGHT:
            safe_set_local_fp32_param(weight, padded)
            weight.ds_tensor.data.copy_(padded)
        else:
            safe_set_local_optimizer_state(weight, padded, kind)


class _Stage2:
    """All weights of a group lie end to end, divided wherever it falls; each worker has them whole, too."""

    def __init__(self, zero_optimizer: Any):
        self._zero = zero_optimizer

    def length(self, weight: Any) -> int:
        return int(weight.numel())

    def get(self, weight: Any, kind: str) -> Tensor:
        row = torch.zeros(weight.numel(), dtype=torch.float32, device=weight.device)
        if (piece := self._piece(weight, kind)) is not None:
            at, mine = piece
            row[at : at + len(mine)] = mine
        dist.all_reduce(row)
        start, length = _slice(weight.numel())
        return row[start : start + length].clone()

    def put(self, weight: Any, kind: str, row: DTensor) -> None:
        whole = row.full_tensor()
        if (piece := self._piece(weight, kind)) is not None:
            at, mine = piece
            mine.copy_(whole[at : at + len(mine)])
        if kind == _WEIGHT:
            weight.data.copy_(whole.view(weight.shape))

    def _piece(self, weight: Any, kind: str) -> tuple[int, Tensor] | None:
        """What this worker's optimizer has of a weight, and where in the weight's row it lies."""
        mapping = weight._hp_mapping
        if mapping is None:
            return None
        piece: Tensor = mapping.get_hp_fragment()
        if kind != _WEIGHT:
            flat = self._zero.single_partition_of_fp32_groups[mapping.param_group_index]
            address = mapping.get_hp_fragment_address()
            piece = self._zero.optimizer.state[flat][kind].narrow(0, address.start, address.numel)
        return mapping.lp_fragment_address.start, piece.detach()
