"""A finished sweep under stopping rules, as text: ``python -m orchestrator replay FILE [STEP]``.

The rules are those that are asked for, or the sweep's own, or the usual ones. The answers that they look at are the
sweep's own at its budgets: nothing is decoded, graded or written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml
from pydantic import TypeAdapter, ValidationError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.figures.tables import as_markdown, cell, markdown
from jobs.evaluate.stats.comparisons import compare
from jobs.evaluate.stats.curves import NATURAL_END, drawn
from jobs.evaluate.stats.outcomes import of_frame
from jobs.evaluate.stopping import reading
from jobs.evaluate.stopping.findings import TURN_COLUMNS, record, sentences, turn_rows
from jobs.evaluate.stopping.replay import PROBES, rows
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.stopping import Rules, Stopping, replayed
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError

USUAL = ("oracle", {"rule": "convergence", "agree": [2, 3, 4]})
"""What is replayed where nobody says what."""


def study(config: EvaluateConfig, context: StepContext, asked: str | None = None) -> str:
    """Tables in Markdown, a task each. `asked` is a value of ``stopping``, as YAML. Raises StepError in one line."""
    given = _given(config, asked)
    context.check_out("output")
    path = context.output / PROBES
    path = path if path.exists() else context.output / "samples.parquet"
    return tables(config, path, given)


def tables(config: EvaluateConfig, path: Path, given: Sequence[Stopping]) -> str:
    """The tables, from a file that has the answers of budgets."""
    budgets = [policy for policy in config.policies if isinstance(policy, Budget)]
    policies = list(replayed(given, budgets))
    probes = sorted({*budgets, *(leaf for each in policies for leaf in each.leaves)}, key=lambda leaf: leaf.place)
    sections = []
    for task in reading.read(path, [probe.name for probe in probes], texts=False):
        shown = [probe for probe in budgets if probe.name in task.policies]
        frames = [
            task.frame[task.frame["policy"].isin([each.name for each in shown])],
            *rows(task, policies, config.seed),
        ]
        outcomes = of_frame(pd.concat(_plain(frames), ignore_index=True), [each.name for each in (*shown, *policies)])
        curves = drawn(outcomes, [*shown, *policies], config.seed, at_k=())
        sections.append(as_markdown(curves, compare(outcomes, NATURAL_END.name, at_k=())).rstrip())
        found = record(task, policies, config.seed)
        lines = [(cell(first), *others) for first, *others in turn_rows(found)]
        sections += [f"{cell(task.task)}: {sentences(found)}", markdown(TURN_COLUMNS, lines)]
    return "\n\n".join(sections) + "\n"


def _plain(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """With policies under one set of names, so that they can be put together."""
    names = list(dict.fromkeys(str(name) for frame in frames for name in frame["policy"].unique()))
    return [frame.assign(policy=pd.Categorical(frame["policy"].astype(str), names)) for frame in frames]


def _given(config: EvaluateConfig, asked: str | None) -> Sequence[Stopping]:
    own: Sequence[Stopping] | None = getattr(config, "stopping", None)
    if asked is None and own is not None:
        return own
    try:
        value = list(USUAL) if asked is None else yaml.safe_load(asked)
        return TypeAdapter(Rules).validate_python(value)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise StepError(f"--rules: {first['msg'].removeprefix('Value error, ')}") from None
    except yaml.YAMLError:
        raise StepError(f"--rules: {asked!r} is no YAML: give a list, such as '[oracle]'") from None
