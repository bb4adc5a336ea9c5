"""How long training takes and what it costs, from shapes, a machine and the share of its peak that is reached.

Model FLOPs are counted as in arXiv 2204.02311, appendix B: two for each number that a token meets in a matrix product,
forward, and twice that backward; attention beside it, and only the half that causality leaves. What is computed again
because of activation checkpointing is work, but not the model's: MFU leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.catalogue import MachineType
from jobs.architecture import Architecture


@dataclass(frozen=True)
class TrainingWork:
    """What is to be learned."""

    tokens: float
    """Of all epochs together, padding not counted."""
    length: float
    """Tokens of a sample: what attention grows with."""
    steps: int
    """Optimizer steps."""


def flops(model: Architecture, tokens: float, length: float, *, adapters: bool = False) -> float:
    """Floating-point operations to learn from `tokens` in samples of `length` tokens.

    With `adapters` the gradients of the frozen weights themselves are not computed: 4 for each number instead of 6.
    """
    matrices = (4 if adapters else 6) * model.multiplied
    # Scores and weighted values: 2 products of 2 operations over half of the positions, forward; twice that backward.
    attention = 6 * model.layers * model.heads * model.head_size * length
    return tokens * (matrices + attention)


def mfu(model: Architecture, work: TrainingWork, machine: MachineType, cards: int, seconds: float) -> float:
    """The share of the cards' peak that doing `work` in so many seconds uses."""
    return flops(model, work.tokens, work.length) / (seconds * cards * machine.card.tflops * 1e12)


def traffic(model: Architecture, micro_batches: float, *, compute: int, master: int) -> float:
    """Bytes that pass each worker of a fully sharded gang: each time weights gathered twice, gradients reduced once."""
    return micro_batches * model.parameters * (2 * compute + master)


def seconds(
    model: Architecture,
    work: TrainingWork,
    machine: MachineType,
    cards: int,
    *,
    share: float,
    sent: float,
    adapters: bool = False,
) -> float:
    """Seconds that `work` takes on `cards` at an MFU of `share`, or that its traffic of `sent` bytes takes, if longer.

    A roofline: computation and communication overlap.
    """
    computing = flops(model, work.tokens, work.length, adapters=adapters) / (cards * machine.card.tflops * 1e12 * share)
    return max(computing, sent / machine.interconnect(cards) if cards > 1 else 0.0)
