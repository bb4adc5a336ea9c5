"""What finished sweeps can answer about a model and a task, over what it costs: ``python -m orchestrator frontier``.

Sweeps of one model on one task are one pool of options: other budgets, other extensions, votes, rules, searches. Each
is paired with the others by item.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.figures import costs
from jobs.evaluate.figures.frontier_plots import write_html
from jobs.evaluate.figures.frontier_tables import as_markdown
from jobs.evaluate.figures.tables import cell
from jobs.evaluate.publish import outcomes_of
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
        sections.append(f"## {cell(model)} on {cell(task)}\n\n{as_markdown(over, request.budgets)}")
    if request.plot is not None:
        write_html(drawn, request.plot)
    return "\n".join(sections)


def _by_model_and_task(
    steps: Sequence[FinishedStep],
) -> dict[tuple[str, str], list[tuple[Options, Mapping[str, str]]]]:
    """The options of each sweep, and the correct answers to its items."""
    by_model_and_task: dict[tuple[str, str], list[tuple[Options, Mapping[str, str]]]] = {}
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
            by_model_and_task.setdefault((model, task.task), []).append((each, task.golds))
    return by_model_and_task


def _together(sweeps: Sequence[tuple[Options, Mapping[str, str]]]) -> Options:
    """All options on the items that every sweep was asked."""
    _, golds = sweeps[0]
    for each, others in sweeps[1:]:
        for item in each.items:
            if item in golds and item in others and golds[item] != others[item]:
                raise StepError(
                    f"frontier: item {item} of {each.task} has the answer {golds[item]} in one sweep and "
                    f"{others[item]} in another: these are not the same questions"
                )
    joined = reduce(lambda one, other: one.beside(other), (each for each, _ in sweeps))
    if not joined.items:
        named = ", ".join(dict.fromkeys(each.options[0].sweep for each, _ in sweeps))
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
