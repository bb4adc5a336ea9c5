"""The planner's parameters, gradients and moments against those that real strategies hold, after a backward pass."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.count_memory import qwen2, storages
from jobs.architecture import Architecture
from jobs.finetune.batches import Batch
from jobs.finetune.deepspeed_config import deepspeed_settings
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.model import PRECISIONS, Blueprint
from jobs.finetune.optimizer import AVERAGES
from jobs.finetune.planning.memory import WorkLayout, memory
from jobs.finetune.worker import make_strategy
from tests.finetune.gang import config, processes

pytestmark = pytest.mark.processes

# Sizes that two workers cannot share equally, so that padding counts.
ODD = Architecture(3, 67, 133, heads=3, kv_heads=1, head_size=22, vocabulary=301, tied=False, qkv_bias=True)

TARGETS = ("q_proj", "down_proj")
LORA = {"rank": 8, "targets": list(TARGETS)}
ADAPTED: dict[str, Any] = {"adapter_rank": 8, "adapter_targets": TARGETS}

# What two workers train, and how the planner is told of it.
CASES: dict[str, tuple[dict[str, Any], WorkLayout]] = {
    "fsdp": ({}, WorkLayout(8, shards=2)),
    "a copy on each worker": ({"resources": {"workers": 2, "shard_group": 1}}, WorkLayout(8, shards=1)),
    "offloaded": ({"resources": {"workers": 2, "offload": True}}, WorkLayout(8, shards=2, offload=True)),
    "adapters": ({"lora": LORA}, WorkLayout(8, shards=2, **ADAPTED)),
    "zero-2": (
        {"strategy": "deepspeed", "resources": {"workers": 2, "deepspeed": {"stage": 2}}},
        WorkLayout(8, shards=2, strategy="zero-2"),
    ),
    "zero-3": ({"strategy": "deepspeed"}, WorkLayout(8, shards=2, strategy="zero-3")),
    "zero-3 with adapters": (
        {"strategy": "deepspeed", "lora": LORA},
        WorkLayout(8, shards=2, strategy="zero-3", **ADAPTED),
    ),
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Bytes of parameters, gradients and moments on worker 0 of two, by case."""
    folder = tmp_path_factory.mktemp("counted")
    AutoModelForCausalLM.from_config(qwen2(ODD)).save_pretrained(folder / "model")
    processes.start_processes(_count, args=(folder,), nprocs=2, start_method="forkserver")
    told: dict[str, list[int]] = json.loads((folder / "counted").read_text())
    return told


@pytest.mark.parametrize("case", CASES)
def test_the_planner_counts_what_a_worker_holds(counted: dict[str, list[int]], case: str) -> None:
    need = memory(ODD, CASES[case][1])
    if need.host:
        assert need.host == pytest.approx(sum(counted[case]), rel=0.03)
    else:
        assert [need.parameters, need.gradients, need.optimizer] == pytest.approx(counted[case], rel=0.03)


def _count(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = dist.FileStore(str(folder / "meeting-point"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    told = {}
    for case, (fields, _) in CASES.items():
        recipe = config(**{"model": str(folder / "model"), "precision": "bf16", "resources": {"workers": 2}, **fields})
        architecture = AutoConfig.from_pretrained(folder / "model")
        blueprint = Blueprint(str(folder / "model"), architecture, PRECISIONS["bf16"], recipe.lora, seed=0)
        settings = deepspeed_settings(recipe) if recipe.strategy == "deepspeed" else None
        strategy: Any = make_strategy(recipe, blueprint, torch.device("cpu"), settings)
        strategy.backward(Batch(torch.arange(8)[None], torch.arange(8)[None]), 16, last=True)
        told[case] = list(map(_bytes, _of_fsdp(strategy) if isinstance(strategy, Fsdp) else _of_zero(strategy)))
    if rank == 0:
        (folder / "counted").write_text(json.dumps(told))
    dist.destroy_process_group()


def _of_fsdp(strategy: Any) -> tuple[Any, Any, Any]:
    weights = list(strategy._loss.parameters())
    return weights, [weight.grad for weight in weights if weight.grad is not None], _moments(strategy._optimizer)


def _of_zero(strategy: Any) -> tuple[Any, Any, Any]:
    """DeepSpeed has weights for the computation, in stage 3 slices of them, beside the masters that Adam moves."""
    zero, weights = strategy._engine.optimizer, list(strategy._loss.parameters())
    if strategy._stage == 2:
        whole = [(weight.grad, weight.grad_accum) for weight in weights]
        gradients = [whole, *map(list, zero.averaged_gradients.values())]
        return [weights, zero.single_partition_of_fp32_groups], gradients, _moments(zero.optimizer)
    slices = [weight.ds_tensor for weight in weights]
    return [slices, zero.fp32_partitioned_groups_flat], zero.averaged_gradients, _moments(zero.optimizer)


def _moments(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [state[name] for state in optimizer.state.values() for name in AVERAGES]


def _bytes(tensors: Any) -> int:
    """Of all storages: gradients of a layer, and DeepSpeed's weights, are slices of one."""
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages(tensors)}.values())
