"""Does a training step need the memory that ``plan`` says? Counted on no device at all.

    python benchmarks/count_memory.py [--tokens 4096,20000,32768] [--layers 2] [--workers 16] [--json FILE]

Trains layers of Qwen2.5-32B, with embedding and head, as the ``fsdp`` strategy does (FSDP2; bf16 over float32 masters;
full activation checkpointing; fused AdamW), two micro-batches to a step, with the loss in chunks and with whole logits.
Tensors have shapes and no content; what is compared with the planner is the bytes of those alive at once on the first
of the workers. What a card itself measures is for ``gpu_check.py``. ``--tiny`` takes a model of a few thousand numbers.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Qwen2Config

sys.path.insert(0, str(Path(__file__).parents[1]))  # a bare machine has the checkout, and nothing installed from it

from jobs.architecture import Architecture
from jobs.finetune.chunks import positions_at_once
from jobs.finetune.cross_entropy import cross_entropies
from jobs.finetune.planning.memory import WorkLayout, memory

QWEN_32B = Architecture(
    64, 5120, 27648, heads=40, kv_heads=8, head_size=128, vocabulary=152064, tied=False, qkv_bias=True
)
TINY = Architecture(4, 64, 128, heads=4, kv_heads=2, head_size=16, vocabulary=1024, tied=False, qkv_bias=True)

MICRO_BATCHES = 2
"""In a step: the second finds the gradients of the first in memory, as in training."""

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


def chunked(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """As the training loop has it."""
    at_once = positions_at_once(len(hidden), hidden.shape[1], len(head))
    return cross_entropies(hidden, head, labels, at_once=at_once).sum(dtype=torch.float32)


LOSSES: dict[str, Loss] = {"chunked": chunked, "whole": WholeLogits.apply}


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


def accumulate(trained: Trained, tokens: int) -> None:
    """The gradients of a step: those of `MICRO_BATCHES` sequences of random tokens."""
    vocabulary = trained.model.config.vocab_size
    for _ in range(MICRO_BATCHES):
        ids = torch.randint(vocabulary, (1, tokens + 1))
        (trained(ids[:, :-1], ids[0, 1:]) / (MICRO_BATCHES * tokens)).backward()


def count(shape: Architecture, tokens: int, loss: str, mesh: DeviceMesh) -> Case:
    """Bytes of the gradients of a second step, when the optimizer has its state."""
    with Alive() as alive:
        trained, optimizer = build(shape, loss, mesh)
        accumulate(trained, tokens)
        optimizer.step()
        optimizer.zero_grad()
        # Drawing the weights took copies; so does AdamW where it runs without a kernel.
        alive.peak = 0
        accumulate(trained, tokens)
    planned = memory(shape, WorkLayout(tokens, shards=mesh.size(), whole_logits=loss == "whole", on_cpu=True)).total
    return Case(tokens, loss, shape.layers, planned, alive.peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="4096,20000,32768", help="sequence lengths, separated by commas")
    parser.add_argument("--losses", default="chunked,whole")
    parser.add_argument("--layers", type=int, help="layers to take; else all")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand numbers")
    parser.add_argument("--workers", type=int, default=1, help="that share the model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    whole_model = TINY if options.tiny else QWEN_32B
    shape = replace(whole_model, layers=options.layers or whole_model.layers)
    print(f"torch {torch.__version__}")
    print("  tokens     loss layers  predicted GB   counted GB   error")
    cases = []
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=options.workers)
    mesh = init_device_mesh("cpu", (options.workers,))
    for tokens in map(int, options.tokens.split(",")):
        for loss in options.losses.split(","):
            with FakeTensorMode(allow_non_fake_inputs=True):
                case = count(shape, tokens, loss, mesh)
            gc.collect()
            cases.append(case)
            sizes = f"{case.predicted / 1e9:>13.3f} {case.measured / 1e9:>12.3f} {case.error:>+7.1%}"
            print(f"{case.tokens:>8} {case.loss:>8} {case.layers:>6} {sizes}", flush=True)
    dist.destroy_process_group()
    if options.json is not None:
        rows = [asdict(case) | {"error": case.error} for case in cases]
        options.json.write_text(json.dumps({"torch": torch.__version__, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
