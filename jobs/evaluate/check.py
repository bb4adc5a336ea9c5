"""What only the model's tokenizer tells of a sweep, asked before anything starts that costs.

A style whose delimiters the tokenizer cannot write, thinking that the chat template has closed, an effort that it
refuses, a closing that opens thinking again: each would otherwise be found when the sweep starts, after the fine-tune
before it was paid for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines import model as models
from jobs.evaluate.scorers import layout
from jobs.evaluate.scorers.protocol import Writer
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


def _tokenizer(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> tuple[Any, tuple[int, ...]]:
    """The tokenizer of the config's model, and what ends its turns; None where this machine does not have it."""
    if isinstance(config.base, Reference):
        forecast = inputs[config.base.step].forecast
        return forecast.tokenizer() if isinstance(forecast, ModelForecast) else None, ()
    model = models.at_hand(config)
    if model is None:
        return None, ()
    models.sampling(config, model)
    return model.tokenizer, model.end_of_turn


def _check(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> None:
    tokenizer, ends = _tokenizer(config, inputs)
    if tokenizer is None:
        return
    prompter = Prompter(tokenizer, config.template.style, ends, config.instructions)
    prompter.forcing(config.policies)
    by_root(config.policies, prompter)
    _check_scorer(config, inputs, prompter.template)


def _check_scorer(config: EvaluateConfig, inputs: Mapping[str, Upcoming], template: ThinkingTemplate) -> None:
    """What the tokenizer of the scorer's model tells."""
    if config.search is None or config.search.scorer.model is None:
        return
    as_model = config.model_copy(update={"model": config.search.scorer.model, "context_length": "auto"})
    tokenizer, ends = _tokenizer(as_model, inputs)
    if tokenizer is not None:
        reader = Writer(tokenizer, template, ends, config.instructions)
        layout.check(config.search.scorer, reader)
