"""A look at a distilling step before it runs: a prompt of each type of question, as the teacher will be given it."""

from __future__ import annotations

from jobs.distil.config import DistilConfig
from jobs.distil.questions import questions
from jobs.evaluate.look import prompts
from orchestrator.job.context import StepContext


def look(config: DistilConfig, context: StepContext) -> str:
    """The look, as text. Raises StepError as the step itself would."""
    return prompts(config, context, lambda: questions(config, context.inputs).tasks)
