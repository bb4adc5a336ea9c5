"""The shipped recipe's step, without its machines: Qwen2.5-32B on a gang of 16, of which this process is one.

Tensors have shapes and no content, and a process group that sends nothing stands for the other fifteen. The model is
built, wrapped and stepped by the code that trains, and torch's own tracker counts what one worker's tensors take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.count_memory import qwen2
from jobs.architecture import find
from jobs.finetune.batches import Batch
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.model import PRECISIONS, Blueprint
from jobs.finetune.planning.estimate import setting_of
from jobs.finetune.planning.memory import Memory, memory
from orchestrator.experiment import load
from tests.conftest import ROOT

pytestmark = pytest.mark.processes

QWEN_32B = find("Qwen/Qwen2.5-32B-Instruct")
CPU = torch.device("cpu")


class EverythingIsLearned(TorchDispatchMode):
    """Answers what hangs on content: a mask picks all that there is, and a tensor of one number is 1."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default:
            return 1.0
        if operation is torch.ops.aten.index.Tensor and args[1][0].dtype == torch.bool:
            whole, mask = args[0], args[1][0]
            return whole.new_empty((mask.numel(), *whole.shape[mask.ndim :]))
        return operation(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def meshes_have_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh is ranks, which are read: it is made outside of what has no content."""

    def made_outside(*arguments: Any, **named: Any) -> Any:
        with unset_fake_temporarily():
            return init_device_mesh(*arguments, **named)

    monkeypatch.setattr("jobs.finetune.fsdp.init_device_mesh", made_outside)


@contextmanager
def one_of(workers: int) -> Iterator[None]:
    """Worker 1, which reads no weights, of a gang that this process is alone in."""
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=workers)
    try:
        yield
    finally:
        dist.destroy_process_group()


def recipe(**resources: object) -> FinetuneConfig:
    """The shipped one, with changes to what holds it."""
    [step] = load(ROOT / "experiments" / "s1" / "finetune.yaml").steps.values()
    fields = step.config.model_dump(mode="json")
    return FinetuneConfig.model_validate_json(json.dumps(fields | {"resources": fields["resources"] | resources}))


def counted(config: FinetuneConfig, layers: int, micro_batches: int = 1) -> int:
    """Bytes of a worker's tensors at the most, in one step on rows of the longest length."""
    shapes = qwen2(replace(QWEN_32B, layers=layers))
    with one_of(config.resources.workers), FakeTensorMode(allow_non_fake_inputs=True), EverythingIsLearned():
        blueprint = Blueprint("nowhere", shapes, PRECISIONS[config.precision], config.lora, seed=0)
        strategy = Fsdp(config, blueprint, CPU)
        # How an update is divided is worked out once, on whole weights, which the tracker would take for real ones.
        for weight in strategy._loss.parameters():
            weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
        strategy.update(1e-5)
        ids: Tensor = torch.zeros(1, config.block_size, dtype=torch.int64)
        tracker = FSDPMemTracker(strategy._loss, strategy._optimizer)
        with tracker:
            for _ in range(micro_batches):
                strategy.backward(Batch(ids, ids), 1, last=True)
                tracker.reset_mod_stats()
            strategy.update(1e-5)
    return int(tracker.get_tracker_snapshot("peak")[CPU]["Total"])


def planned(config: FinetuneConfig, layers: int) -> Memory:
    """The plan's figure, where CPUs compute."""
    layout = replace(setting_of(config).placed, on_cpu=True)
    return memory(replace(QWEN_32B, layers=layers), layout)


def test_the_paper_s_recipe_takes_what_the_plan_says() -> None:
    """With a quarter of its 64 layers, each of which takes the same; ``tests/faults`` has all of them."""
    config = recipe()
    assert planned(config, layers=16).total == pytest.approx(counted(config, layers=16), rel=0.05)


@pytest.mark.parametrize(
    ("resources", "micro_batches"),
    [
        ({}, 1),
        ({"tokens_in_memory": 32768, "workers": 8}, 2),
        ({"activation_checkpointing": "selective"}, 1),
        ({"activation_checkpointing": "off"}, 1),
        ({"shard_group": 8}, 1),
    ],
    ids=lambda value: str(value),
)
def test_so_do_other_ways_to_hold_it(resources: dict[str, object], micro_batches: int) -> None:
    config = recipe(**resources)
    assert planned(config, layers=4).total == pytest.approx(counted(config, 4, micro_batches), rel=0.05)
