"""Who decides where rules cannot: a language model that is asked whether two answers are the same. Light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from jobs.evaluate.engines.registry import AUTO, ENGINES, EngineName, gpus_problem
from jobs.evaluate.engines.server import Server
from orchestrator.job.references import ModelSource
from orchestrator.job.strict_model import StrictModel

if TYPE_CHECKING:  # which has these fields
    from jobs.evaluate.config import EvaluateConfig


class Judge(StrictModel):
    """A model that compares answers. What it is enters the sweep's identity; where it runs does not."""

    model: ModelSource = Field(description="${step}, a folder in Hugging Face's layout, or a model's name on its hub")
    engine: EngineName = Field(default=AUTO, description="auto: vllm on GPUs, else transformers")
    served_model: str | None = Field(default=None, min_length=1, description="on a server: its name for the model")
    max_tokens: int = Field(default=1024, ge=16, le=1 << 20, description="of a reply, whatever it thinks included")

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if self.served != (self.served_model is not None):
            raise ValueError(
                f"engine: {self.engine}: an engine on a server and served_model go together: give both or neither"
            )
        return self

    @property
    def served(self) -> bool:
        """Whether it is on a server."""
        return self.engine != AUTO and ENGINES[self.engine].served


class JudgeResources(StrictModel):
    """What the judge holds while it is asked."""

    cpus: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0, description="that share the judge")
    server: Server | None = Field(default=None, description="where the judge is served, if it is on a server")
    in_flight: int = Field(default=64, ge=1, description="questions that it is asked at once")


def cannot_judge(config: EvaluateConfig) -> str | None:
    """Where a judge is needed and not given, or the other way round, in a line; None where all is well."""
    judged = [task for task in config.tasks if task.answer_type.undecided == "judge"]
    if judged and config.judge is None:
        return (
            f"judge: task {judged[0].name!r} is of type {judged[0].answers}: give judge: {{model: …}}, or its answers "
            "another type"
        )
    if config.judge is None:
        return None
    if not judged:
        return "judge: no task is of type judged: leave it out, or give a task type: judged"
    resources = config.resources.judge
    if config.judge.served != (resources.server is not None):
        return "resources.judge.server: goes with a judge.engine on a server: give both or neither"
    problem = gpus_problem(config.judge.engine, resources.gpus)
    return problem and f"resources.judge.gpus: {problem}"
