"""What an optimizer step tells of itself."""

from __future__ import annotations

import dataclasses
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did. Its fields are the metrics of a training run."""

    step: int
    """Optimizer steps done, this one included."""
    steps: int
    """Optimizer steps of the whole run."""
    loss: float
    """Mean over the step's learned tokens, or over its samples' means, in nats, before its update."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tokens_per_second: float
    """Of all workers, padding not counted."""
    peak_memory: int
    """Bytes: of the GPU where there is one, else of the process. Of worker 0."""
    padding: float
    """Share of the positions computed by all workers that were padding."""
    epoch: float
    """How often the data has been gone through: 1.5 is in the middle of the second time."""
    rows: int
    """Rows learned from so far, each counted as often as it came. A row is a sample, unless samples are packed."""
    mfu: float | None = None
    """Share of the cards' peak (:mod:`jobs.finetune.utilisation`); None where that is not known."""
    evaluation_loss: float | None = None
    """The same mean over what is kept from training, after the update; None where it is not due."""

    def metrics(self) -> dict[str, float]:
        """Those that have a value, by name; the step apart."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in ("step", "steps") and value is not None}


def peak_memory(device: torch.device) -> int:
    """Bytes, since the process began: of tensors on a GPU, else of the process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
