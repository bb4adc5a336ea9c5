"""How fast one GPU trains Qwen2.5-32B's layers, and whether it needs the memory that ``plan`` says.

    python benchmarks/finetune_gpu.py [--tokens 4096,20000,32768] [--json FILE]

Needs torch (2.11 or newer) and transformers, and nothing else of this project's environment: copy the checkout to a
machine with a GPU and run it. For each sequence length, with the loss in chunks and with whole logits, it takes as many
of the model's 64 layers as the planner says the card holds, with embedding and head, and trains them as the ``fsdp``
strategy does (FSDP2 on a mesh of one; bf16 over float32 masters; full activation checkpointing; fused AdamW), two
micro-batches to a step. MFU counts the model's FLOPs alone, against the card's peak in ``cluster/machines.yaml``.

    python benchmarks/finetune_gpu.py --count --layers 2

runs the same steps on no device at all: tensors have shapes and no content, and what is compared with the planner is
the bytes of those alive at once; with ``--workers 16`` on the first of 16 workers. ``--cpu --tiny`` runs everything for
real on a model of a few thousand numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, Qwen2Config

sys.path.insert(0, str(Path(__file__).parents[1]))  # a bare machine has the checkout, and nothing installed from it

from cluster.machines import Card, machine, names
from jobs.architecture import Architecture
from jobs.finetune.chunks import positions_at_once
from jobs.finetune.memory import Layout, memory
from jobs.finetune.roofline import flops

QWEN_32B = Architecture(
    64, 5120, 27648, heads=40, kv_heads=8, head_size=128, vocabulary=152064, tied=False, qkv_bias=True
)
TINY = Architecture(4, 64, 128, heads=4, kv_heads=2, head_size=16, vocabulary=1024, tied=False, qkv_bias=True)

MICRO_BATCHES = 2
"""In a step: the second finds the gradients of the first in memory, as in training."""

HEADROOM = 0.92
"""Share of the card's memory for which layers are chosen; the rest is fragmentation's."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    tokens: int
    """In a micro-batch: one sequence."""
    loss: str
    layers: int
    predicted: float
    """Bytes, by the planner."""
    measured: float
    """Bytes, at the most."""
    seconds: float | None
    """Of a step; None where tensors have no content."""
    mfu: float | None
    """None where the device is not in the catalogue."""

    @property
    def error(self) -> float:
        """How far the prediction is off, as a share of what was measured."""
        return self.predicted / self.measured - 1


class WholeLogits(torch.autograd.Function):
    """The summed cross-entropy with the least that whole logits take: as the head gives them, and once in float32.

    torch's own cross-entropy holds the log-softmax besides.
    """

    @staticmethod
    def forward(context: Any, hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        logits = hidden @ head.T
        wide = logits.float()
        normaliser = wide.logsumexp(-1)
        context.save_for_backward(hidden, head, labels, logits, wide, normaliser)
        return (normaliser - wide.gather(-1, labels[:, None])[:, 0]).sum()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, head, labels, logits, wide, normaliser = context.saved_tensors
        gradient = (wide - normaliser[:, None]).exp_()
        gradient.scatter_add_(-1, labels[:, None], gradient.new_full((len(labels), 1), -1.0))
        logits.copy_(gradient.mul_(gradients[0]))
        return logits @ head, logits.T @ hidden, None


def chunked_by_torch(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """As the training loop has it."""
    chunk = positions_at_once(len(hidden), hidden.shape[1], len(head))
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=chunk, chunking_method=None)
    losses = F.linear_cross_entropy(hidden, head, labels, reduction="none", options=options)
    return losses.sum(dtype=torch.float32)


def chunked_by_hand(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """What stands in for it in a torch that lacks it: every chunk's logits are computed again for its gradient."""

    def chunk(part: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy((part @ head.T).float(), targets, reduction="sum")

    at_once = positions_at_once(len(hidden), hidden.shape[1], len(head))
    parts = zip(hidden.split(at_once), labels.split(at_once), strict=True)
    losses: list[Tensor] = [checkpoint(chunk, part, targets, use_reentrant=False) for part, targets in parts]
    return torch.stack(losses).sum()


LOSSES: dict[str, Loss] = {
    "chunked": chunked_by_torch if hasattr(F, "linear_cross_entropy") else chunked_by_hand,
    "whole": WholeLogits.apply,
}


class Trained(nn.Module):
    """The model with its loss inside, so that the head is gathered where it is used."""

    def __init__(self, model: nn.Module, loss: Loss):
        super().__init__()
        self.model: Any = model
        self.loss = loss

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of one sequence: `ids` [1, tokens], `labels` [tokens]."""
        # No mask: attention is causal by itself, and a mask of tokens x tokens would be the largest tensor of all.
        hidden = self.model.model(input_ids=ids, attention_mask={"full_attention": None}, use_cache=False)
        return self.loss(hidden.last_hidden_state[0], self.model.lm_head.weight, labels)


def storages(tensors: Any) -> Iterator[torch.UntypedStorage]:
    """What tensors in whatever structure have on this worker: slices of one storage have it each."""
    for tensor in tree_leaves(tensors):
        if isinstance(tensor, Tensor):
            yield (tensor._local_tensor if isinstance(tensor, DTensor) else tensor).untyped_storage()


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for storage in storages(result):
            self._add(storage)
        self.peak = max(self.peak, self.now)
        return result

    @property
    def now(self) -> int:
        """Read anew each time: FSDP2 frees a storage by giving it no size, and takes it again."""
        there = [storage for reference in self._storages.values() if (storage := reference()) is not None]
        return sum(storage.nbytes() for storage in there)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._storages:
            self._storages[key] = weakref.ref(storage, lambda gone: self._storages.pop(key, None))


def qwen2(shape: Architecture) -> Qwen2Config:
    """The shape as transformers is told of it."""
    return Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=32768,
        tie_word_embeddings=shape.tied,
    )


def build(shape: Architecture, loss: str, mesh: DeviceMesh) -> tuple[Trained, torch.optim.Optimizer]:
    """The model with random weights, sharded over a mesh of one, and its optimizer."""
    with torch.device(mesh.device_type):
        model = AutoModelForCausalLM.from_config(qwen2(shape), dtype=torch.float32)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    trained = Trained(model, LOSSES[loss])
    precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    fully_shard(trained, mesh=mesh, mp_policy=precision)
    return trained, torch.optim.AdamW(trained.parameters(), lr=1e-5, fused=True)


def accumulate(trained: Trained, tokens: int, device: torch.device) -> None:
    """The gradients of a step: those of `MICRO_BATCHES` sequences of random tokens."""
    vocabulary = trained.model.config.vocab_size
    for _ in range(MICRO_BATCHES):
        ids = torch.randint(vocabulary, (1, tokens + 1), device=device)
        (trained(ids[:, :-1], ids[0, 1:]) / (MICRO_BATCHES * tokens)).backward()


def step(trained: Trained, optimizer: torch.optim.Optimizer, tokens: int, device: torch.device) -> None:
    """One optimizer step."""
    accumulate(trained, tokens, device)
    optimizer.step()
    optimizer.zero_grad()


def predicted(shape: Architecture, tokens: int, loss: str, workers: int = 1, *, on_cpu: bool = False) -> float:
    """Bytes, by the planner."""
    return memory(shape, Layout(tokens, shards=workers, whole_logits=loss == "whole", on_cpu=on_cpu)).total


def fitting_layers(shape: Architecture, tokens: int, loss: str, available: float) -> int:
    """As many of the layers as `available` bytes hold; 0 where not even one."""
    counts = range(shape.layers, 0, -1)
    return next((n for n in counts if predicted(replace(shape, layers=n), tokens, loss) <= available), 0)


def measure(shape: Architecture, tokens: int, loss: str, mesh: DeviceMesh, steps: int, card: Card | None) -> Case:
    """Trains for `steps` steps after one that is not timed. Without content, nothing is timed."""
    device = torch.device(mesh.device_type)
    counted = device.type != "cuda"
    seconds = None
    with Alive() if counted else contextlib.nullcontext() as alive:
        trained, optimizer = build(shape, loss, mesh)
        step(trained, optimizer, tokens, device)
        if alive is not None:
            # Drawing the weights took copies; so does AdamW where it runs without a kernel.
            alive.peak = 0
        else:
            torch.cuda.reset_peak_memory_stats(device)
        if steps:
            started = _now(device)
            for _ in range(steps):
                step(trained, optimizer, tokens, device)
            seconds = (_now(device) - started) / steps
        else:
            accumulate(trained, tokens, device)
        peak = torch.cuda.max_memory_allocated(device) if alive is None else alive.peak
    del trained, optimizer
    gc.collect()
    if not counted:
        torch.cuda.empty_cache()
    work = flops(shape, MICRO_BATCHES * tokens, tokens)
    mfu = None if card is None or seconds is None else work / (seconds * card.tflops * 1e12)
    planned = predicted(shape, tokens, loss, mesh.size(), on_cpu=counted)
    return Case(tokens, loss, shape.layers, planned, peak, seconds, mfu)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def card_of(device: torch.device) -> Card | None:
    """The catalogue's card that is nearest in memory among those whose name the device has in its own."""
    if device.type != "cuda":
        return None
    name, size = torch.cuda.get_device_name(device).lower(), torch.cuda.get_device_properties(device).total_memory
    cards = {title: machine(title).card for title in names() if title.partition("-")[0] in name.replace(" ", "-")}
    return min(cards.values(), key=lambda card: abs(card.memory - size), default=None)


@contextlib.contextmanager
def gang(device: torch.device, workers: int) -> Iterator[DeviceMesh]:
    """A mesh in a process group of its own; of more than this worker only where tensors have no content."""
    if workers > 1:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=workers)
    else:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh(device.type, (workers,))
    finally:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="4096,20000,32768", help="sequence lengths, separated by commas")
    parser.add_argument("--losses", default="chunked,whole")
    parser.add_argument("--layers", type=int, help="layers to take; else as many as the planner says fit")
    parser.add_argument("--steps", type=int, default=3, help="timed optimizer steps")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand numbers")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cpu", action="store_true", help="on the CPU")
    where.add_argument("--count", action="store_true", help="on no device: count the bytes of tensors without content")
    parser.add_argument("--workers", type=int, default=1, help="with --count: that share the model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    if options.workers > 1 and not options.count:
        parser.error("--workers is for --count: one GPU is measured")
    whole_model = TINY if options.tiny else QWEN_32B
    device = torch.device("cpu" if options.cpu or options.count else "cuda")
    card = card_of(device)
    memory_there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else float("inf")
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else "counted" if options.count else "CPU"
    by = "torch's own" if LOSSES["chunked"] is chunked_by_torch else "by hand: this torch has no linear_cross_entropy"
    print(f"torch {torch.__version__}, {title}; the loss in chunks is {by}")
    print("  tokens     loss layers  predicted GB  measured GB   error   s/step    MFU")
    cases = []
    with gang(device, options.workers) as mesh:
        for tokens in map(int, options.tokens.split(",")):
            for loss in options.losses.split(","):
                layers = options.layers or fitting_layers(whole_model, tokens, loss, HEADROOM * memory_there)
                if not layers:
                    print(f"{tokens:>8} {loss:>8}      0  does not fit")
                    continue
                shape = replace(whole_model, layers=layers)
                shapes_only = FakeTensorMode(allow_non_fake_inputs=True) if options.count else contextlib.nullcontext()
                with shapes_only:
                    case = measure(shape, tokens, loss, mesh, 0 if options.count else options.steps, card)
                cases.append(case)
                print(_row(case), flush=True)
    if options.json is not None:
        rows = [asdict(case) | {"error": case.error} for case in cases]
        options.json.write_text(json.dumps({"torch": torch.__version__, "device": title, "cases": rows}, indent=1))


def _row(case: Case) -> str:
    timing = f"{case.seconds:>8.2f}" if case.seconds is not None else f"{'':>8}"
    mfu = f"{case.mfu:>6.1%}" if case.mfu is not None else ""
    sizes = f"{case.predicted / 1e9:>13.3f} {case.measured / 1e9:>12.3f} {case.error:>+7.1%}"
    return f"{case.tokens:>8} {case.loss:>8} {case.layers:>6} {sizes} {timing} {mfu}"


if __name__ == "__main__":
    main()
