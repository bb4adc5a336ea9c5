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
    replay=lazy("jobs.evaluate.stopping.study:study"),
    report=lazy("jobs.evaluate.report:write"),
    board=lazy("jobs.evaluate.board:write"),
    follow=lazy("jobs.evaluate.live:follow"),
    exports={
        "inspect": lazy("jobs.evaluate.exports.inspect_logs:write"),
        "lm-eval": lazy("jobs.evaluate.exports.lm_eval:write"),
        "csv": lazy("jobs.evaluate.exports.table_files:write_csv"),
        "latex": lazy("jobs.evaluate.exports.table_files:write_latex"),
        "pdf": lazy("jobs.evaluate.exports.paper_figures:write_pdf"),
        "svg": lazy("jobs.evaluate.exports.paper_figures:write_svg"),
    },
    frontier=lazy("jobs.evaluate.frontier:frontier"),
    frames=lazy("jobs.evaluate.frames:frames"),
    try_model=lazy("jobs.evaluate.attempts.start:try_model"),
)
