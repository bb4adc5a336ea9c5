"""What one worker holds at the worst moment of a training step, in bytes, from shapes alone.

Standard library only: ``plan`` calls it before anything heavy is imported. ``benchmarks/count_memory.py`` compares it
with tensors counted, ``benchmarks/gpu_check.py`` with a card's own count. Three things make up the sum.

**What is held all the time.** With Adam in mixed precision each number costs its float32 master, its float32 gradient
and two float32 moments: 16 bytes, divided by the workers that share a copy (ZeRO, arXiv 1910.02054, section 3.1;
FSDP, arXiv 2304.11277, section 3.2). DeepSpeed keeps weights in the computation's precision beside the masters.

**What a layer's backward pass needs.** The tensors that transformers' Llama-like layers save for autograd, counted one
by one in :func:`_saved_by_layer` (the method of arXiv 2205.05198, section 4, for this layout and for attention that
does not keep its scores). With full checkpointing each layer keeps only its input, and one layer at a time is computed
again.

**The worst moment.** Of those three, different amounts meet in the loss, in a layer's backward pass, and when the
gradients of embedding and head are reduced at the end; the largest sum counts, because that is when memory runs out.
Where a step has one micro-batch, gradients are not there all the time: they come as activations go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jobs.architecture import Architecture, Shape
from jobs.finetune.chunks import positions_at_once

Sharding = Literal["fsdp", "zero-2", "zero-3"]
Checkpointing = Literal["off", "selective", "full"]

_SINGLE = 4
"""Bytes of a float32 number."""

_BUCKET = 500_000_000
"""Gradients that DeepSpeed collects before it reduces them (its ``reduce_bucket_size``)."""

_LIVE = 1_000_000_000
"""Weights that DeepSpeed keeps gathered at most (its ``stage3_max_live_parameters``)."""


@dataclass(frozen=True)
class WorkLayout:
    """How the work is laid out: what memory depends on, the model's shapes apart."""

    tokens: int
    """In the model at once, on one worker."""
    shards: int = 1
    """Workers that hold one copy of the model together."""
    strategy: Sharding = "fsdp"
    checkpointing: Checkpointing = "full"
    offload: bool = False
    """Weights, gradients and moments stay in the CPU's memory between uses."""
    compute: int = 2
    """Bytes of a number in the computation: 2 for bf16, 4 for float32, 8 for float64."""
    whole_logits: bool = False
    """The loss holds the logits of all tokens, instead of a chunk's."""
    adapter_rank: int | None = None
    """LoRA's: the weights are frozen, and only adapters of this rank are trained."""
    adapter_targets: tuple[str, ...] = ()
    """The layers' matrices that have one."""
    on_cpu: bool = False
    """Computed by CPUs, which sum up products of bf16 in float32 copies where GPUs do so in passing."""
    accumulates: bool = True
    """A step has several micro-batches: from the second on, the gradients of those before are there all the time. With
    one they come layer by layer, while activations go."""

    @property
    def master(self) -> int:
        """Bytes of a number as the optimizer sees it: float32, unless the computation is finer."""
        return max(_SINGLE, self.compute)


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker's device, at the worst moment."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    """Kept from the forward pass for the backward pass, by the layers."""
    logits: float
    """And what is computed from them; after the loss, the head's gradient."""
    transients: float
    """Gathered weights and gradients before they are reduced, the layer that is computed again, norms and casts."""
    moment: str
    """When: in the loss, in a layer's backward pass, in the first layer's, or while the last gradients are reduced."""
    host: float
    """Bytes of the CPU's memory for what is offloaded."""

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def parts(self) -> Mapping[str, float]:
        """By name, in the order in which they are read."""
        return {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "logits": self.logits,
            "transients": self.transients,
        }


@dataclass(frozen=True)
class _Moment:
    name: str
    gradients: float
    """Those that were reduced already, a worker's share of them."""
    activations: float
    logits: float
    transients: float

    @property
    def total(self) -> float:
        return self.gradients + self.activations + self.logits + self.transients


def memory(model: Architecture, layout: WorkLayout) -> Memory:
    """What a worker needs to train `model` as laid out."""
    parameters, gradients, optimizer = _states(model, layout)
    host = 0.0
    if layout.offload:
        # ZeRO-2 keeps the weights that compute on the device, and offloads the rest.
        stays = float(layout.compute * model.parameters) if layout.strategy == "zero-2" else 0.0
        host = parameters + gradients + optimizer - stays
        parameters, gradients, optimizer = stays, 0.0, 0.0
    worst = max(_moments(model, layout, gradients), key=lambda moment: moment.total)
    beside = worst.activations, worst.logits, worst.transients
    return Memory(parameters, worst.gradients, optimizer, *beside, moment=worst.name, host=host)


def _states(model: Architecture, layout: WorkLayout) -> tuple[float, float, float]:
    """Bytes of weights, gradients and Adam's moments on one worker.

    FSDP2 splits each matrix along its first dimension and pads the last shard; DeepSpeed splits what it has flattened.
    Frozen weights, beside adapters, are kept in the computation's precision.
    """
    whole_only = layout.strategy != "fsdp"
    shards = 1 if whole_only else layout.shards
    every = model.layers * _sharded(model.layer_shapes, shards) + _sharded(model.root_shapes, shards)
    trained, frozen = every, 0.0
    if layout.adapter_rank is not None:
        trained, frozen = model.layers * _sharded(_adapters(model, layout), shards), every
    master = layout.master
    if not whole_only:
        return master * trained + layout.compute * frozen, master * trained, 2 * master * trained
    ours = trained / layout.shards
    computing = layout.compute * (trained + frozen) / (layout.shards if layout.strategy == "zero-3" else 1)
    return computing + master * ours, master * ours, 2 * master * ours


def checkpoint_bytes(model: Architecture, layout: WorkLayout) -> float:
    """Bytes of a checkpoint, of all workers together: what is trained, as the optimizer sees it, and its moments."""
    trained = model.parameters
    if layout.adapter_rank is not None:
        trained = model.layers * sum(map(math.prod, _adapters(model, layout)))
    return float(3 * layout.master * trained)


def _sharded(shapes: tuple[Shape, ...], shards: int) -> float:
    """Numbers of `shapes` on one worker, each split along its first dimension, padding included."""
    return float(sum(-(-shape[0] // shards) * math.prod(shape[1:]) for shape in shapes))


def _adapters(model: Architecture, layout: WorkLayout) -> tuple[Shape, ...]:
    """The matrices that LoRA puts into one layer, two for each target."""
    rank = layout.adapter_rank or 0
    targets = [shape for name, shape in model.linears.items() if name in layout.adapter_targets]
    return tuple(part for out, into in targets for part in ((rank, into), (out, rank)))


def _moments(model: Architecture, layout: WorkLayout, gradients: float) -> tuple[_Moment, ...]:
    """What is held beside weights and optimizer, at each moment that can be the worst; `gradients` are all of them."""
    tokens, compute = layout.tokens, layout.compute
    stream = float(compute * tokens * model.hidden_size)
    norm = _saved_by_norm(model, layout)
    saved = _saved_by_layer(model, layout)
    kept = {"full": stream, "selective": stream + _products(model, layout), "off": saved}[layout.checkpointing]
    gathered, ahead, around_layer, behind, at_the_end = _in_transit(model, layout)
    head_gradient = 0.0 if layout.adapter_rank is not None else float(compute * model.head_parameters)
    # In chunks it is summed up during the loss, and counted there.
    head_of_whole = head_gradient if layout.whole_logits else 0.0
    # In the layer whose turn it is: what it saved, less what the loss of its product frees, the gradients of both
    # factors of the gated MLP at once, and the gradient that flows along the residual stream.
    again = {"full": saved, "selective": saved - _not_again(model, layout), "off": 0.0}[layout.checkpointing]
    at_work = again + 2 * compute * tokens * model.intermediate_size + stream
    none_yet, one_layer, all_layers = _reduced(model, layout, gradients)
    backward = gathered + around_layer + at_work
    return (
        # The last norm's tensors, the learned positions picked from its output, their gradient, and the last layer's
        # weights, which are on their way.
        _Moment(
            "in the loss",
            none_yet,
            model.layers * kept,
            _logits(model, layout),
            gathered + ahead + head_of_whole + norm + 2 * stream,
        ),
        # Layer by layer what is kept goes and gradients come: the most is there at either end. The last layer's pass
        # is the first, and has no other's gradients in transit; the one after it finds of what that kept its input at
        # most.
        _Moment("in the last layer's backward pass", none_yet, model.layers * kept, head_gradient, backward),
        _Moment(
            "in a layer's backward pass",
            one_layer,
            (model.layers - 1) * kept + stream,
            head_gradient,
            backward + behind,
        ),
        _Moment("in the first layer's backward pass", all_layers, kept, head_gradient, backward + behind),
        _Moment("while the embedding's gradient is reduced", all_layers, 0, 0, at_the_end + stream),
    )


def _reduced(model: Architecture, layout: WorkLayout, gradients: float) -> tuple[float, float, float]:
    """Bytes of a worker's share of gradients before any layer's backward pass, after one, and after all of them.

    Where a step has one micro-batch, FSDP2 has no gradients before it: they are dropped after the update. DeepSpeed
    keeps its buffers.
    """
    if layout.accumulates or layout.strategy != "fsdp" or not gradients:
        return gradients, gradients, gradients
    shapes = model.layer_shapes if layout.adapter_rank is None else _adapters(model, layout)
    layer = layout.master * _sharded(shapes, layout.shards)
    return 0.0, layer, model.layers * layer


def _saved_by_norm(model: Architecture, layout: WorkLayout) -> float:
    """Bytes that one RMSNorm over the hidden size keeps: its input in float32, the normalised, and the scaled."""
    widest = max(_SINGLE, layout.compute)
    return float((widest + 2 * layout.compute) * layout.tokens * model.hidden_size)


def _saved_by_layer(model: Architecture, layout: WorkLayout) -> float:
    """Bytes that one layer keeps for its backward pass.

    Two norms (their outputs are the inputs of the projections); queries, keys and values as rotated, the attention's
    output and one float32 per head and token; the MLP's gate, its SiLU, the other factor and the product.
    """
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    attention = layout.compute * (2 * queries + 2 * keys) + _SINGLE * model.heads
    if model.head_norms:
        attention += (max(_SINGLE, layout.compute) + layout.compute) * (queries + keys)
    mlp = layout.compute * 4 * model.intermediate_size
    return 2 * _saved_by_norm(model, layout) + layout.tokens * (attention + mlp)


def _products(model: Architecture, layout: WorkLayout) -> float:
    """Bytes of a layer's matrix products and attention, which selective checkpointing keeps."""
    outputs = sum(shape[0] for shape in model.linears.values()) + model.heads * model.head_size
    return float(layout.tokens * (layout.compute * outputs + _SINGLE * model.heads))


def _not_again(model: Architecture, layout: WorkLayout) -> float:
    """Bytes of those products that are not held a second time when a layer is computed again.

    The backward pass uses values, gate and the MLP's other factor, the attention's output and its sums as they are.
    Queries and keys before their rotation, and what the attention adds to the stream, are dropped once they were used.
    """
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    as_they_are = queries + keys + 2 * model.intermediate_size
    dropped = queries + keys + model.hidden_size
    return float(layout.tokens * (layout.compute * (as_they_are + dropped) + _SINGLE * model.heads))


def _logits(model: Architecture, layout: WorkLayout) -> float:
    """Bytes of the logits and what is computed from them.

    Whole, for every token: as the head gives them, a float32 copy, and that copy's gradient. In chunks
    (``torch.nn.functional.linear_cross_entropy``): those of one chunk, and the gradient of the head, which is summed
    up while the chunks pass; on CPUs, float32 copies of head and gradient besides.
    """
    wide = 2 * max(_SINGLE, layout.compute) + layout.compute
    if layout.whole_logits:
        return float(layout.tokens * model.vocabulary * wide)
    chunk = positions_at_once(layout.tokens, model.hidden_size, model.vocabulary)
    head = float(layout.compute * model.head_parameters if layout.adapter_rank is None else 0)
    if layout.on_cpu and layout.compute < _SINGLE:
        head += _SINGLE * model.head_parameters * (1 if layout.adapter_rank is not None else 2)
    return chunk * model.vocabulary * wide + head


def _in_transit(model: Architecture, layout: WorkLayout) -> tuple[float, float, float, float, float]:
    """Bytes of gathered weights all the time, of a layer on its way, around a layer's backward pass, of the layer
    before it there, and at the end.

    FSDP2 gathers embedding and head for the whole step. Around a layer there are its gathered weights, the next
    layer's, which are on their way, its gradients, and the former layer's gradients in float32 while they are summed
    over the workers. A single worker has its layer's copy and gradients only. ZeRO-3 gathers up to its limit of live
    weights; both ZeRO stages collect gradients in buckets.
    """
    compute, master = layout.compute, layout.master
    trains = layout.adapter_rank is None
    layer, root = model.layer_parameters, model.root_parameters
    bucket = float(2 * master * min(_BUCKET, model.parameters)) if trains else 0.0
    if layout.strategy == "zero-2":
        return 0.0, 0.0, bucket, 0.0, bucket
    if layout.strategy == "zero-3":
        live = float(compute * min(_LIVE, model.parameters))
        return live, 0.0, bucket, 0.0, live + bucket
    gradients = (compute + master) if trains else 0
    ahead = 0 if layout.shards == 1 else compute * layer
    gathered = (compute + (compute if trains else 0)) * layer
    behind = master * layer if trains else 0
    # The root's weights are freed by then; its gradients, and what they are copied into; or that, and what comes of it.
    reduced = max(gradients, master * (1 + 1 / layout.shards)) if trains else 0
    return float(compute * root), float(ahead), float(gathered + ahead), float(behind), float(reduced * root)
