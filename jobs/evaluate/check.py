"""What only the model's tokenizer tells of a sweep, asked before anything starts that costs.

A style whose delimiters the tokenizer cannot write, thinking that the chat template has closed, an effort that it
refuses, a closing that opens thinking again: each would otherwise be found when the sweep starts, after the fine-tune
before it was paid for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines import model as models
from jobs.evaluate.scorers import layout
from jobs.evaluate.scorers.config import as_model, complaints
from jobs.evaluate.scorers.protocol import Writer
from jobs.evaluate.sweep.policy import walked
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.sweep.roots import by_root
from jobs.forecasts import ModelForecast
from jobs.template import ThinkingTemplate
from orchestrator.job.config import Problem, Upcoming
from orchestrator.job.errors import StepError
from orchestrator.job.references import Reference


def check(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> Iterator[Problem]:
    """The first thing that the sweep would be refused for when it starts.

    Nothing where this machine does not have the tokenizer: a name of the hub that was never fetched here.
    """
    try:
        _check(config, inputs)
    except StepError as error:
        field, _, message = str(error).partition(": ")
        yield Problem(tuple(field.split(".")), message)


@dataclass(frozen=True)
class _AtHand:
    """What this machine knows of a model that is there, or will be."""

    tokenizer: Any
    ends: tuple[int, ...]
    """What ends its turns."""
    context: int | None
    """In tokens."""


def _at_hand(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> _AtHand | None:
    """Of the config's model; None where this machine does not have its tokenizer."""
    if isinstance(config.base, Reference):
        forecast = inputs[config.base.step].forecast
        if not isinstance(forecast, ModelForecast) or (tokenizer := forecast.tokenizer()) is None:
            return None
        return _AtHand(tokenizer, (), forecast.architecture.context)
    model = models.at_hand(config)
    if model is None:
        return None
    models.sampling(config, model)
    return _AtHand(model.tokenizer, model.end_of_turn, model.context_length)


def _check(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> None:
    model = _at_hand(config, inputs)
    if model is None:
        return
    prompter = Prompter(model.tokenizer, config.template.style, model.ends, config.instructions)
    policies = walked(config.policies)
    prompter.forcing(policies)
    by_root(policies, prompter)
    _check_scorer(config, inputs, prompter.template)


def _check_scorer(config: EvaluateConfig, inputs: Mapping[str, Upcoming], template: ThinkingTemplate) -> None:
    """What the tokenizer of the scorer's model tells."""
    if config.search is None or config.search.scorer.model is None:
        return
    scorer = config.search.scorer
    with complaints():
        model = _at_hand(as_model(scorer, config), inputs)
    if model is not None:
        if scorer.window is not None and model.context is not None and scorer.window > model.context:
            raise StepError(
                f"search.scorer.window: {scorer.window} is beyond the {model.context} positions of its model: lower it"
            )
        reader = Writer(model.tokenizer, template, model.ends, config.instructions)
        layout.check(config.search, reader, scorer.window or model.context)
