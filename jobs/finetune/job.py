"""The ``finetune`` kind of step: what it is and can do."""

from __future__ import annotations

from jobs.finetune.config import FinetuneConfig
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job

JOB = Job(
    config=FinetuneConfig,
    run=lazy("jobs.finetune.run:run"),
    look=lazy("jobs.finetune.prepare:look"),
    estimate=lazy("jobs.finetune.planning.estimate:estimate"),
    forecast=lazy("jobs.finetune.planning.estimate:forecast"),
    follow=lazy("jobs.finetune.live:follow"),
    exports={"model-card": lazy("jobs.finetune.model_card:write")},
)
