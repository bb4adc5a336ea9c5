"""What finished sweeps can answer about a model and a task, over what it costs: ``python -m orchestrator frontier``.

Sweeps of one model on one task are one pool of options: other budgets, other extensions, votes, rules, searches. Each
is paired with the others by item.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.figures import costs, equal_tokens
from jobs.evaluate.figures.frontier_pictures import write_png
from jobs.evaluate.figures.frontier_plots import write_html
from jobs.evaluate.figures.frontier_tables import as_markdown
from jobs.evaluate.figures.tables import cell
from jobs.evaluate.publish import outcomes_of
from jobs.evaluate.stats.equal_tokens import EqualTokens, at_equal_tokens
from jobs.evaluate.stats.frontier import frontiers
from jobs.evaluate.stats.options import Options, options
from jobs.evaluate.stats.votes import spelled
from orchestrator.job.errors import StepError
from orchestrator.job.record import FinishedStep, FrontierRequest
from orchestrator.job.references import Reference

SAMPLES = "samples.parquet"


def frontier(steps: Sequence[FinishedStep], request: FrontierRequest) -> str:
    """Tables and sentences in Markdown, a section for each model and task; writes the plot where one is asked for.

    Raises StepError where nothing can be told: no items in common, or correct answers that differ.
    """
    sections, drawn = [], []
    for (model, task), of_both in _by_model_and_task(steps).items():
        shared = _together(of_both)
        over = frontiers(shared, seed=0)
        drawn.append((f"{model} on {task}", over))
        searched = [each for sweep in of_both for each in sweep.searched]
        text = "\n".join(filter(None, [as_markdown(over, request.budgets), equal_tokens.as_markdown(searched)]))
        sections.append(f"## {cell(model)} on {cell(task)}\n\n{text}")
    if request.plot is not None:
        (write_png if request.plot.suffix == ".png" else write_html)(drawn, request.plot)
    return "\n".join(sections)


@dataclass(frozen=True)
class _Answered:
    """What one sweep says of a task."""

    options: Options
    golds: Mapping[str, str]
    """The correct answers, by item."""
    searched: tuple[EqualTokens, ...]
    """Its searches, beside votes at as many tokens."""


def _by_model_and_task(steps: Sequence[FinishedStep]) -> dict[tuple[str, str], list[_Answered]]:
    by_model_and_task: dict[tuple[str, str], list[_Answered]] = {}
    names: dict[str, str] = {}
    counted = Counter(step.context.name for step in steps)
    for step in steps:
        config = step.config
        assert isinstance(config, EvaluateConfig), "a step of another kind has another frontier"
        called, identity = _model(step, config)
        model = names.setdefault(identity, f"{called}, {identity}" if called in names.values() else called)
        output = step.context.output
        spent = costs.read(json.loads((output / "decode.json").read_text()))
        votes = spelled(config.votes, config.scores)
        context = step.context
        sweep = context.name if counted[context.name] == 1 else f"{context.experiment}: {context.name}"
        for task in outcomes_of(config, output / SAMPLES):
            each = options(
                *(task, config.policies, votes, sweep, config.at_k),
                None if spent is None else spent.usd_per_token,
                config.seed,
                config.scorer_is_told,
            )
            searched = at_equal_tokens(task, config.policies, votes, config.seed, config.scorer_is_told)
            by_model_and_task.setdefault((model, task.task), []).append(_Answered(each, task.golds, searched))
    return by_model_and_task


def _together(sweeps: Sequence[_Answered]) -> Options:
    """All options on the items that every sweep was asked."""
    golds = sweeps[0].golds
    for each in sweeps[1:]:
        for item in each.options.items:
            if item in golds and item in each.golds and golds[item] != each.golds[item]:
                raise StepError(
                    f"frontier: item {item} of {each.options.task} has the answer {golds[item]} in one sweep and "
                    f"{each.golds[item]} in another: these are not the same questions"
                )
    joined = reduce(lambda one, other: one.beside(other), (each.options for each in sweeps))
    if not joined.items:
        named = ", ".join(dict.fromkeys(each.options.options[0].sweep for each in sweeps))
        raise StepError(f"frontier: {named} have no item of {joined.task} in common: name sweeps of the same questions")
    return joined


def _model(step: FinishedStep, config: EvaluateConfig) -> tuple[str, str]:
    """What it is called, and what it is."""
    if config.base is None:
        return config.model_name, f"served {config.served_model}"
    if isinstance(config.base, Reference):
        made = step.context.input(config.base).fingerprint
        return config.model_name, f"{made} with {config.adapted.adapter}" if config.adapted else made
    return config.model_name, str(config.model)
