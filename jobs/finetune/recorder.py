"""Tells the store what training does: numbers for the tracking server, and how far the step is."""

from __future__ import annotations

import time
from pathlib import Path

import torch.distributed as dist

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.measures import StepReport
from jobs.finetune.prepare import publish, seen
from jobs.finetune.system_metrics import SystemMetrics
from orchestrator.job.context import StepContext
from orchestrator.job.tracked_run import TookDataset

_SECONDS_BETWEEN_PROGRESS = 0.5


class Recorder:
    """Writes what each optimizer step did to the step's tracked run, how far it is to the step's progress, and at last
    what model came of it."""

    def __init__(self, config: FinetuneConfig, context: StepContext, data: Path):
        """`data` is the folder of the prepared data (:mod:`jobs.finetune.prepare`)."""
        self._context = context
        params = config.model_dump(mode="json", exclude={"resources"})
        params |= {"workers": dist.get_world_size()} | seen(data)
        self._params = params
        self._run = context.track("finetune", params, group="training")
        source = config.data.path or config.data.dataset
        self._run.took([TookDataset(str(source), str(params["data_fingerprint"]), str(source))])
        publish(data, self._run.artifacts)
        self._system = SystemMetrics()
        self._rewound = False
        self._last_progress = 0.0

    def __call__(self, report: StepReport) -> None:
        if not self._rewound:
            self._run.rewind(report.step - 1)
            self._rewound = True
        self._run.metrics(report.metrics() | self._system.due(), report.step)
        now = time.monotonic()
        if report.step == report.steps or now - self._last_progress > _SECONDS_BETWEEN_PROGRESS:
            self._context.progress(report.step, report.steps, "steps")
            self._last_progress = now

    def made_model(self) -> None:
        """Tells of the exported model: what it was made from, by which recipe, and where it is.

        The base model and the data are also among the recipe's fields; fingerprints say what was in them.
        """
        lineage = {"location": str(self._context.storage / "output"), "fingerprint": self._context.fingerprint}
        inputs = {f"input_{name}": taken.fingerprint for name, taken in self._context.inputs.items()}
        self._run.made_model(self._context.name, "finetuned", lineage | inputs | self._params)
