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
from jobs.evaluate.grading.sandbox import unavailable
from jobs.evaluate.grading.workers import Workers
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError

FILE = "grading.json"


@contextmanager
def grading(config: EvaluateConfig, context: StepContext, into: Path) -> Iterator[Grader]:
    """A grader for the tasks of `config`. When it is done with, what graded is on record in the folder `into`.

    Raises StepError where programs have to be run, and this machine does not let them be locked up.
    """
    code = [task.name for task in config.tasks if task.answer_type.undecided == "sandbox"]
    if code and (why := unavailable()):
        raise StepError(
            f"task {code[0]}: its answers are programs, which run without a network and apart from everything else, "
            f"and this machine does not allow that ({why}): allow unprivileged user namespaces "
            "(kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that has unshare and "
            "mount, and an unmasked /proc), or leave the task out"
        )
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
