"""What the loop asks of whatever divides the model among the workers.

A strategy owns the model, its gradients and its optimizer. The loop gives it micro-batches and a learning rate, and
knows nothing of shards; so there is one loop, one log, and one meaning of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor

from jobs.finetune.batches import Batch


class Strategy(Protocol):
    """One worker's part of a model that is being trained. Every method is called by all workers."""

    def backward(self, batch: Batch, learned: int, *, last: bool) -> Tensor:
        """Adds a micro-batch's gradients, its loss divided by the `learned` tokens of the whole step.

        The gradients of all workers and micro-batches add up; `last` says that the step has no more of them. Returns
        what this micro-batch contributes to the step's loss: a scalar, detached.
        """

    def update(self, rate: float) -> float:
        """Clips the gradients, moves the weights at the learning rate `rate`, and forgets the gradients.

        The norm of all gradients before clipping. Where it is not finite, the weights may have been left as they were.
        """

    def evaluate(self, batch: Batch) -> Tensor:
        """The sum of the losses of this worker's learned tokens, without gradients: a scalar."""

    def state(self) -> dict[str, Any]:
        """Weights and optimizer, nested by name, for ``torch.distributed.checkpoint``; what it saves is the worker's
        shards, and what it loads may have been saved by another number of workers.

        The tensors may be the live ones or copies: filling them in place, then :meth:`load_state`, restores.
        """

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from `state`, as :meth:`state` returned it and a checkpoint filled it."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The trained model's weights one by one, by transformers' names, whole and on the CPU, adapters merged.

        In float32, or what the model is trained in where that is wider. On worker 0; elsewhere the tensors are empty.
        """
