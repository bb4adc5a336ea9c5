"""The ``evaluate`` kind of step: what it is and can do."""

from __future__ import annotations

from jobs.evaluate.config import EvaluateConfig
from orchestrator.job.extensions import lazy
from orchestrator.job.record import Job

JOB = Job(
    config=EvaluateConfig,
    run=lazy("jobs.evaluate.run:run"),
    check=lazy("jobs.evaluate.check:check"),
    estimate=lazy("jobs.evaluate.planning.estimate:estimate"),
    look=lazy("jobs.evaluate.look:look"),
    regrade=lazy("jobs.evaluate.regrade:regrade"),
    compare=lazy("jobs.evaluate.compare:compare"),
    report=lazy("jobs.evaluate.report:write"),
    frontier=lazy("jobs.evaluate.frontier:frontier"),
    frames=lazy("jobs.evaluate.frames:frames"),
    try_model=lazy("jobs.evaluate.attempts.start:try_model"),
)
