"""A grader with all that a sweep's config asks for, and the record of what graded: ``grading.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading import GRADER_VERSION
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.grading.judge_actor import JudgeSession
from jobs.evaluate.grading.workers import Workers
from orchestrator.job.context import StepContext

FILE = "grading.json"


@contextmanager
def grading(config: EvaluateConfig, context: StepContext, into: Path) -> Iterator[Grader]:
    """A grader for the tasks of `config`. When it is done with, what graded is on record in the folder `into`."""
    if config.judge is None:
        with Grader() as grader:
            yield grader
    else:
        with Workers() as workers, JudgeSession(config.judge, config, context, workers) as session:
            grader = Grader(session.verdicts, workers)
            yield grader
            session.write(into)
    (into / FILE).write_text(json.dumps(graded_by(), indent=1) + "\n")


def graded_by() -> dict[str, str | int]:
    """What grades now: the version of our rules, and that of the library behind the mathematics."""
    return {"grader": GRADER_VERSION, "math_verify": version("math-verify")}


def was_graded_by(output: Path) -> Mapping[str, str | int]:
    """What graded a finished sweep; nothing where that is not on record."""
    path = output / FILE
    record: Mapping[str, str | int] = json.loads(path.read_text()) if path.exists() else {}
    return record
