"""What some rules look at besides answers: read from the traces once they are decoded, and kept with the probes.

Each is a column of ``probes.parquet``: of an answer that was forced after so many tokens of thinking, what those tokens
say. Traces are long, so they are read only for rules that ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.samples import SCHEMA, SampledPrompt, samples_file
from jobs.evaluate.stopping.probes import Reals
from jobs.evaluate.stopping.replay import PROBES
from jobs.evaluate.sweep.policies.stopping import Stopped
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Policy, Root
from jobs.evaluate.sweep.tree import Key, forced
from jobs.evaluate.traces.files import Index, read_confidences
from jobs.evaluate.traces.segments import TRUNK, UNSURE, Row

WINDOW = 2048
"""Tokens of a stretch of thinking whose confidence is a mean: DeepConf's group. Shorter thinking is one stretch."""
BOTTOM = 0.1
"""Of the stretches, those least confident, whose mean is the confidence of a trace's bottom."""


def add(samples: Path, policies: Sequence[Policy], questions: Sequence[SampledPrompt], index: Index) -> None:
    """Adds what the rules of `policies` need to the probes beside `samples`. Raises DamagedFile."""
    needs = {need for policy in policies if isinstance(policy, Stopped) for need in policy.rule.needs}
    names = [name for name in SIGNALS if name in needs]
    if not names:
        return
    probes = samples.with_name(PROBES)
    there = pq.ParquetFile(probes)
    schema = pa.schema([*SCHEMA, *(pa.field(name, pa.float32()) for name in names)])
    units = {
        (question.task.name, question.item.id, unit.sample): unit.item
        for question in questions
        if question.policies[0].root == Root()
        for unit in question.units
    }
    with samples_file(probes, schema) as write:
        for group in range(there.num_row_groups):
            rows = there.read_row_group(group).to_pylist()
            write(pa.Table.from_pylist(list(_with(names, rows, units, index)), schema))


def _with(
    names: Sequence[str], rows: Sequence[dict[str, Any]], units: Mapping[tuple[str, str, int], str], index: Index
) -> Iterator[dict[str, Any]]:
    """Rows with what they lack; those of a sample follow one another."""
    for (task, item, sample), of_sample in groupby(rows, lambda row: (row["task"], row["item"], row["sample"])):
        probes = list(of_sample)
        known = index.unit(units[task, item, sample], sample).rows
        columns = dict(_columns(names, probes, known, index))
        for number, probe in enumerate(probes):
            yield {**probe, **{name: values[number] for name, values in columns.items()}}


def _columns(
    names: Sequence[str], probes: Sequence[Mapping[str, Any]], known: Sequence[Row], index: Index
) -> Iterator[tuple[str, Sequence[float]]]:
    last = {row.key: row.sureness for row in sorted(known, key=lambda row: row.start)}
    for name in names:
        if name in OF_ANSWERS:
            yield name, [getattr(last.get(_answer(probe), UNSURE), name) for probe in probes]
    measures = {name: MEASURES[name] for name in names if name in MEASURES}
    if measures:
        trunk = sorted((row for row in known if row.key == TRUNK), key=lambda row: row.start)
        of_tokens = np.array([each for part in read_confidences(index.places(trunk)) for each in part])
        cuts = [min(probe["thinking_tokens"], len(of_tokens)) for probe in probes]
        total = np.concatenate([[0.0], np.cumsum(of_tokens)])
        for name, measure in measures.items():
            yield name, [measure(total, cut) if cut else np.nan for cut in cuts]


def _answer(probe: Mapping[str, Any]) -> Key:
    """The piece that a probe's answer is."""
    if probe["thinking_end"] == "natural":
        return Key((), "natural", probe["thinking_tokens"])
    return forced((), FINAL_ANSWER, probe["thinking_tokens"])


def _stretches(total: Reals, cut: int) -> Reals:
    """The confidence of every stretch of the first `cut` tokens; `total` are sums of tokens' from the first on."""
    if cut <= WINDOW:
        return total[cut : cut + 1] / cut
    return (total[WINDOW : cut + 1] - total[: cut + 1 - WINDOW]) / WINDOW


def _bottom(total: Reals, cut: int) -> float:
    stretches = _stretches(total, cut)
    count = max(1, int(BOTTOM * len(stretches)))
    return float(np.partition(stretches, count - 1)[:count].mean())


MEASURES: Mapping[str, Callable[[Reals, int], float]] = {
    "confidence_lowest": lambda total, cut: float(_stretches(total, cut).min()),
    "confidence_bottom": _bottom,
    "confidence_tail": lambda total, cut: float(_stretches(total, cut)[-1]),
    "confidence_mean": lambda total, cut: float(total[cut] / cut),
}
"""DeepConf's measures (:mod:`jobs.evaluate.stopping.rules.deepconf`), of the first so many tokens, one at least."""
OF_ANSWERS = ("logprob", "entropy")
SIGNALS = (*OF_ANSWERS, *MEASURES)
"""In the order of the file."""
