"""Where a sweep decodes, and how much at a time. Never part of what it is."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from jobs.evaluate.engines.server import Server
from jobs.evaluate.grading.config import JudgeResources
from orchestrator.job.resources import MOST_AT_ONCE, Resources, Seconds
from orchestrator.job.strict_model import StrictModel


class Replicas(StrictModel):
    """How many copies of the model decode at once; between the two, as the work asks."""

    min: int = Field(default=1, ge=1, le=MOST_AT_ONCE)
    max: int = Field(default=1, ge=1, le=MOST_AT_ONCE)

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}: give min <= max")
        return self


class ScorerResources(StrictModel):
    """Where the scorer of searches runs: in each replica, on a share of its cards or on some of its own; or apart, in
    replicas that all of the model's ask."""

    replicas: int = Field(
        default=0, ge=0, le=MOST_AT_ONCE, description="of its own, apart; 0: it runs in each replica of the model"
    )
    gpus: int = Field(
        default=0, ge=0, description="of each of those; in a replica of the model, besides its; 0: a share of its"
    )
    cpus: int = Field(default=1, ge=1, description="CPU cores of each of its own replicas")
    memory: float = Field(
        default=0.25, gt=0, lt=0.8, description="share of each card's memory, where it shares the model's"
    )


class EvaluateResources(Resources):
    """What each replica of the model holds, and how much it is given at a time."""

    replicas: Replicas = Replicas()
    cpus: int = Field(default=1, ge=1, description="CPU cores of one replica")
    gpus: int = Field(default=0, ge=0, description="GPUs of one replica, which share its model")
    in_flight: int = Field(
        default=256, ge=1, description="traces that a replica decodes at once, if its cache holds them"
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, description="vllm's: requests in a step; else from in_flight, the policies and the card"
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, description="vllm's: tokens in a step; else from the card"
    )
    expected_thinking_tokens: int | None = Field(
        default=None, ge=1, description="mean length of a trace, for the plan; else what is known of each task"
    )
    mbu: float | None = Field(
        default=None, gt=0, le=1, description="share of the memory's bandwidth that the plan assumes; else 0.6"
    )
    server: Server | None = Field(default=None, description="where the model is served, for an engine on a server")
    judge: JudgeResources = JudgeResources()
    scorer: ScorerResources = ScorerResources()
    token_deadline: Seconds = Field(default=600, description="seconds without any token before a replica is replaced")

    @model_validator(mode="after")
    def _steps_hold_their_requests(self) -> Self:
        """vLLM refuses the opposite, once it has its GPUs."""
        seats, tokens = self.max_num_seqs, self.max_num_batched_tokens
        if seats is not None and tokens is not None and tokens < seats:
            raise ValueError(
                f"max_num_batched_tokens: {tokens} is less than max_num_seqs {seats}, and each request takes a token "
                "of a step: raise it, or lower max_num_seqs"
            )
        return self
