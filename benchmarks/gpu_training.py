"""Parts c and d of ``gpu_check.py``: training, and running out of memory.

The model is drawn where it is trained (:class:`Drawn`); all else is what a ``finetune`` step runs: ``Fsdp``,
``CausalLoss``, ``Checkpoints``, ``export``, ``diagnose``. Steps are timed on as many of Qwen2.5-32B's layers as the
planner says that the card holds; checkpoints are those of a whole Qwen2.5-1.5B.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from count_memory import QWEN_32B, TINY, Alive, qwen2
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from jobs.architecture import Architecture
from jobs.finetune import checkpoint, worker
from jobs.finetune.assignment import BACKENDS, DATA, assign
from jobs.finetune.batches import Batch
from jobs.finetune.checkpoint import Checkpoints
from jobs.finetune.checkpoint_files import CheckpointFolder
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.export import export
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.model import PRECISIONS, Blueprint
from jobs.finetune.planning.memory import WorkLayout, memory
from jobs.finetune.prepare import prepare
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.finetune.utilisation import utilisation
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError

if TYPE_CHECKING:
    from gpu_check import Record, Where

QWEN_1_5B = Architecture(
    28, 1536, 8960, heads=12, kv_heads=2, head_size=128, vocabulary=151936, tied=True, qkv_bias=True
)
MICRO_BATCHES = 2
"""In a step: the second finds the gradients of the first in memory, as in training."""
HEADROOM = 0.92
"""Share of the card's memory for which layers are chosen; the rest is fragmentation's."""
RATE = 1e-5
COPY_AHEAD = (10_000_000, 0)
"""DCP's own ``per_thread_copy_ahead``, and that of tensors which are on the CPU already. Bytes."""
ALLOWANCE = 32 << 20
"""Memory that is left to part d's step, in bytes."""


@dataclass(frozen=True)
class Drawn(Blueprint):
    """A model whose weights are drawn on the device that trains it: reading or making them is not what is measured."""

    def empty(self) -> nn.Module:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model: nn.Module = AutoModelForCausalLM.from_config(self._own(), dtype=self.precision.master)
        return model

    def values(self, model: nn.Module, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        for name, weight in list(model.named_parameters()):
            # Norms near one, matrices as small as trained ones.
            drawn = torch.randn(weight.shape, dtype=weight.dtype, device=device).mul_(0.02)
            yield name, drawn.add_(1) if weight.ndim == 1 else drawn


CONFIG = FinetuneConfig.model_validate_json(
    json.dumps({"model": "drawn", "data": "${none}", "resources": {"activation_checkpointing": "full"}})
)


def fsdp(shape: Architecture, device: torch.device, seed: int = 0) -> Fsdp:
    """The strategy, with a model of `shape`."""
    torch.manual_seed(seed)
    return Fsdp(CONFIG, Drawn("drawn", qwen2(shape), PRECISIONS[CONFIG.precision], None, seed), device)


def batch(shape: Architecture, tokens: int, device: torch.device, seed: int = 0) -> Batch:
    """One sequence of random tokens, of which all are learned."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(shape.vocabulary, (1, tokens + 1), generator=generator).to(device)
    return Batch(ids[:, :-1], ids[:, 1:])


def accumulate(strategy: Fsdp, of: Batch) -> float:
    """The gradients of a step; its loss."""
    learned = MICRO_BATCHES * of.ids.numel()
    losses = [strategy.backward(of, learned, last=at == MICRO_BATCHES - 1) for at in range(MICRO_BATCHES)]
    return float(torch.stack(losses).sum())


def step(strategy: Fsdp, of: Batch) -> float:
    """One optimizer step; its loss."""
    loss = accumulate(strategy, of)
    strategy.update(RATE)
    return loss


@contextlib.contextmanager
def gang(device: torch.device) -> Iterator[None]:
    """The process group of a gang of one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(BACKENDS[device.type], store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def planned(shape: Architecture, tokens: int, device: torch.device) -> float:
    """Bytes of a worker's device, by the planner."""
    return memory(shape, WorkLayout(tokens, on_cpu=device.type == "cpu")).total


def fitting(shape: Architecture, tokens: int, device: torch.device) -> Architecture:
    """With as many of the layers as the planner says the card holds; all on CPUs. Raises ValueError where none fits."""
    if device.type == "cpu":
        return shape
    there = HEADROOM * torch.cuda.get_device_properties(device).total_memory
    counts = range(shape.layers, 0, -1)
    layers = next((n for n in counts if planned(replace(shape, layers=n), tokens, device) <= there), 0)
    if not layers:
        raise ValueError(f"not one layer of the model fits the card with {tokens} tokens")
    return replace(shape, layers=layers)


def part_c(where: Where, record: Record) -> None:
    """FSDP2 in a gang of one."""
    device = torch.device(where.device)
    with gang(device):
        for tokens in (64, 256) if where.tiny else (8_192, 32_768):
            figures = steps(fitting(TINY if where.tiny else QWEN_32B, tokens, device), tokens, device)
            record.add(**{f"{tokens}_tokens_{name}": value for name, value in figures.items()})
            _forget(device)
        shape, tokens = (TINY, 64) if where.tiny else (QWEN_1_5B, 4_096)
        strategy = fsdp(shape, device)
        for ahead in COPY_AHEAD:
            figures = saving(strategy, batch(shape, tokens, device), where.scratch / f"ahead-{ahead}", ahead, device)
            record.add(**{f"copy_ahead_{ahead}_{name}": value for name, value in figures.items()})
        record.add(**resuming(strategy, shape, tokens, where.scratch / "resumed", device))
        record.add(**exporting(strategy, shape, where.scratch / "exported"))
    if device.type == "cpu":
        record.leave_out("mfu", "no GPU")


def steps(shape: Architecture, tokens: int, device: torch.device, timed: int = 3) -> dict[str, Any]:
    """Seconds of a step, MFU, and the peak against the plan."""
    with Alive() if device.type == "cpu" else contextlib.nullcontext() as alive:
        strategy = fsdp(shape, device)
        of = batch(shape, tokens, device)
        step(strategy, of)  # allocates the optimizer's state
        if alive is not None:
            alive.peak = 0
            accumulate(strategy, of)  # AdamW without a kernel takes copies
            peak = alive.peak
    if alive is None:
        torch.cuda.reset_peak_memory_stats(device)
    seconds, losses = [], []
    for _ in range(timed):
        began = _now(device)
        losses.append(step(strategy, of))
        seconds.append(_now(device) - began)
    if alive is None:
        peak = torch.cuda.max_memory_allocated(device)
    plan = planned(shape, tokens, device)
    figures = {"layers": shape.layers, "step_seconds": min(seconds), "loss": losses[-1]}
    figures |= {"peak": peak, "planned": plan, "planned_over_peak": plan / peak}
    if busy := utilisation(qwen2(shape), CONFIG, device):
        figures["mfu"] = busy.mfu([tokens] * MICRO_BATCHES, min(seconds), 1)
    return figures


def saving(strategy: Fsdp, of: Batch, folder: Path, ahead: int, device: torch.device) -> dict[str, float]:
    """How long a checkpoint keeps training waiting, and how much slower steps are while it is written."""
    alone = fmean(_seconds(lambda: step(strategy, of), device) for _ in range(3))
    with _copy_ahead(ahead), Checkpoints(CheckpointFolder(str(folder)), {}, every=1, keep=1) as saved:
        began = _now(device)
        waited = _seconds(lambda: saved.after(1, strategy, last=False), device)
        while_written = [_seconds(lambda: step(strategy, of), device)]
        assert saved._writing is not None
        writing = saved._writing[1]
        while not writing.done():
            while_written.append(_seconds(lambda: step(strategy, of), device))
        written = _now(device) - began
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "bytes": size,
        "waited_seconds": waited,
        "written_seconds": written,
        "step_seconds": alone,
        "step_seconds_while_written": fmean(while_written),
    }


def resuming(strategy: Fsdp, shape: Architecture, tokens: int, folder: Path, device: torch.device) -> dict[str, Any]:
    """Whether another model that reads a checkpoint is the one that wrote it, and takes the same next step."""
    location = CheckpointFolder(str(folder))
    with Checkpoints(location, {}, every=1, keep=1) as saved:
        saved.after(5, strategy, last=True)
    other = fsdp(shape, device, seed=1)
    with Checkpoints(location, {}, every=1, keep=1) as saved:
        began = _now(device)
        done = saved.restore(other)
        read = _now(device) - began
    same = dict(_flat(strategy.state())), dict(_flat(other.state()))
    equal = same[0].keys() == same[1].keys() and all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    of = batch(shape, tokens, device, seed=2)
    losses = [step(each, of) for each in (strategy, other) for _ in range(2)]
    return {
        "resumed_at": done,
        "resumed_seconds": read,
        "resumed_same_bits": equal,
        "resumed_loss_difference": abs(losses[1] - losses[3]),
    }


def exporting(strategy: Fsdp, shape: Architecture, folder: Path) -> dict[str, Any]:
    """Whether transformers loads what is exported, with the weights that were trained."""
    began = time.perf_counter()
    export(strategy.weights(), qwen2(shape), byte_tokenizer(512), folder)
    seconds = time.perf_counter() - began
    loaded = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    wrong = [
        name for name, weight in strategy.weights() if name in loaded and not torch.equal(loaded[name], weight.cpu())
    ]
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"export_seconds": seconds, "export_bytes": size, "exported": len(loaded), "exported_wrong": len(wrong)}


def part_d(where: Where, record: Record) -> None:
    """A ``finetune`` step whose worker needs more memory than there is, and what a run would say of it."""
    device = torch.device(where.device)
    data = where.scratch / "data.jsonl"
    data.write_text(json.dumps({"question": "What follows?", "trace": "ab" * 60_000, "answer": "That."}))
    model = {"random": "qwen2", "layers": 2, "hidden_size": 64, "context": 2**17}
    fields = {"model": model, "data": str(data), "block_size": 2**17, "batch_size": 1, "precision": "bf16"}
    config = FinetuneConfig.model_validate_json(
        json.dumps(fields | {"resources": {"gpus_per_worker": int(device.type == "cuda")}})
    )
    context = StepContext("gpu-check", "memory", "0", where.scratch / "step", where.scratch / "traces")
    with gang(device), patch.object(worker, "train", _in_little_memory(worker.train, device)):
        assignment = assign(config, context)
        prepare(config, context, assignment.data)
        context.share(DATA)
        try:
            worker.work(assignment, device)
        except (RuntimeError, MemoryError, StepError) as error:
            caught: Exception = error
        else:
            raise SystemExit(f"a step of 120,000 tokens had enough of {ALLOWANCE} bytes")
    record.add(raised=type(caught).__name__, said=str(caught).splitlines()[0])
    if importlib.util.find_spec("ray") is None:
        _without_ray()
    from orchestrator.failures import diagnose

    failure = diagnose(caught)
    record.add(cause=failure.cause, message=failure.message, final=failure.final)


def _in_little_memory(train: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def limited(*args: Any, **kwargs: Any) -> Any:
        with _little_left(device):
            return train(*args, **kwargs)

    return limited


@contextlib.contextmanager
def _little_left(device: torch.device) -> Iterator[None]:
    """Nothing in this process is given more than `ALLOWANCE`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + ALLOWANCE) / total, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ALLOWANCE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _without_ray() -> None:
    """Ray's errors by name, for where there is no Ray to raise them."""
    names = ["WorkerCrashedError", "RayActorError", "LocalRayletDiedError", "ObjectLostError", "OutOfMemoryError"]
    names += ["RaySystemError", "RayTaskError", "NodeDiedError"]
    ray, errors = types.ModuleType("ray"), types.ModuleType("ray.exceptions")
    vars(errors).update({name: type(name, (Exception,), {}) for name in names})
    ray.exceptions = errors  # type: ignore[attr-defined]
    sys.modules |= {"ray": ray, "ray.exceptions": errors}


@contextlib.contextmanager
def _copy_ahead(size: int) -> Iterator[None]:
    """Checkpoints are written with DCP's ``per_thread_copy_ahead`` at `size`."""
    made = checkpoint._Writer.__init__

    def make(writer: Any, *args: Any, **kwargs: Any) -> None:
        made(writer, *args, **kwargs)
        writer.per_thread_copy_ahead = size

    with patch.object(checkpoint._Writer, "__init__", make):
        yield


def _flat(state: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value.to_local() if hasattr(value, "to_local") else value


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _seconds(do: Callable[[], object], device: torch.device) -> float:
    began = _now(device)
    do()
    return _now(device) - began


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
