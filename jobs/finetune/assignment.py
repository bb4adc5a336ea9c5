"""What every worker of a gang is told. Light: the step's own process makes it, and does none of the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.finetune.checkpoint_files import CheckpointFolder, checkpoints_of
from jobs.finetune.config import FinetuneConfig, RandomModel
from jobs.finetune.deepspeed_config import deepspeed_settings
from jobs.finetune.prepare import model_source
from orchestrator.job.context import StepContext

DATA = "data"
"""What is prepared for all workers, by the name under which they share it."""
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Of the process group, by device. Checkpoints and what is offloaded travel between CPUs on GPU machines too."""


@dataclass(frozen=True)
class Assignment:
    """What every worker is told. Its paths are absolute: workers need not share a working folder."""

    config: FinetuneConfig
    context: StepContext
    deepspeed: Mapping[str, Any] | None
    """DeepSpeed's settings, where it is the strategy."""

    @property
    def model(self) -> RandomModel | str:
        """A random model, a folder of the machine that asks, or a hub name."""
        return model_source(self.config, self.context)

    @property
    def data(self) -> Path:
        """What was prepared to be trained on (:mod:`jobs.finetune.prepare`)."""
        return self.context.shared(DATA)

    @property
    def checkpoints(self) -> CheckpointFolder:
        return checkpoints_of(self.config, self.context)


def assign(config: FinetuneConfig, context: StepContext) -> Assignment:
    """The assignment for a step. Raises StepError for a ds_config.json that cannot be used."""
    context = dataclasses.replace(context, storage=context.storage.absolute())
    deepspeed = deepspeed_settings(config) if config.strategy == "deepspeed" else None
    return Assignment(config, context, deepspeed)


def fetch(assignment: Assignment) -> None:
    """Brings the weights of a hub's model to this machine. For worker 0, before it joins others: they would wait for
    it in an operation that has a time limit. Raises StepError where they cannot be had."""
    if isinstance(assignment.model, str):
        # Takes seconds to import, which only workers need to spend.
        from jobs.finetune.model import stored_weights

        stored_weights(assignment.model, assignment.config.revision)
