"""What some rules look at besides answers: read from the traces once they are decoded, and kept with the probes.

Each is a column of ``probes.parquet``: of an answer that was forced after so many tokens of thinking, what those tokens
say. Traces are long, so they are read only for rules that ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.samples import SCHEMA, SampledPrompt
from jobs.evaluate.stopping.probes import Reals
from jobs.evaluate.stopping.replay import PROBES
from jobs.evaluate.stopping.waiting import waits
from jobs.evaluate.sweep.policies.stopping import Stopped
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Policy, Root
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.sweep.tree import Key, forced
from jobs.evaluate.traces.files import Index, read_confidences, read_tokens
from jobs.evaluate.traces.segments import TRUNK, UNSURE, Row

COLUMNS = ("waits", "logprob", "entropy", "confidence")
"""In the order of the file."""

WINDOW = 2048
"""Tokens of a stretch of thinking whose confidence is a mean: DeepConf's group. Shorter thinking is one stretch."""


def add(
    samples: Path, policies: Sequence[Policy], questions: Sequence[SampledPrompt], prompter: Prompter, index: Index
) -> None:
    """Adds what the rules of `policies` need to the probes beside `samples`. Raises DamagedFile."""
    needs = {need for policy in policies if isinstance(policy, Stopped) for need in policy.rule.needs}
    names = [name for name in COLUMNS if name in needs]
    if not names:
        return
    probes = samples.with_name(PROBES)
    there = pq.ParquetFile(probes)
    schema = pa.schema([*SCHEMA, *(pa.field(name, pa.float32()) for name in names)])
    temporary = probes.with_name(f".{probes.name}")
    units = {
        (question.task.name, question.item.id, unit.sample): unit.item
        for question in questions
        if question.policies[0].root == Root()
        for unit in question.units
    }
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for group in range(there.num_row_groups):
            rows = there.read_row_group(group).to_pylist()
            writer.write_table(pa.Table.from_pylist(list(_with(names, rows, units, prompter, index)), schema))
    temporary.rename(probes)


def _with(
    names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    units: Mapping[tuple[str, str, int], str],
    prompter: Prompter,
    index: Index,
) -> Iterator[dict[str, Any]]:
    """Rows with what they lack; those of a sample follow one another."""
    for (task, item, sample), of_sample in groupby(rows, lambda row: (row["task"], row["item"], row["sample"])):
        probes = list(of_sample)
        known = index.unit(units[task, item, sample], sample).rows
        columns = {name: _column(name, probes, known, prompter, index) for name in names}
        for number, probe in enumerate(probes):
            yield {**probe, **{name: values[number] for name, values in columns.items()}}


def _column(
    name: str, probes: Sequence[Mapping[str, Any]], known: Sequence[Row], prompter: Prompter, index: Index
) -> Sequence[float]:
    cuts = [probe["thinking_tokens"] for probe in probes]
    if name in ("logprob", "entropy"):
        last = {row.key: row.sureness for row in sorted(known, key=lambda row: row.start)}
        return [getattr(last.get(_answer(probe), UNSURE), name) for probe in probes]
    trunk = sorted((row for row in known if row.key == TRUNK), key=lambda row: row.start)
    if name == "waits":
        tokens = [token for part in read_tokens(index.places(trunk)) for token in part]
        return waits(tokens, cuts, prompter.pieces)
    return lowest(np.array([each for part in read_confidences(index.places(trunk)) for each in part]), cuts)


def _answer(probe: Mapping[str, Any]) -> Key:
    """The piece that a probe's answer is."""
    if probe["thinking_end"] == "natural":
        return Key((), "natural", probe["thinking_tokens"])
    return forced((), FINAL_ANSWER, probe["thinking_tokens"])


def lowest(confidences: Reals, cuts: Sequence[int]) -> Sequence[float]:
    """The mean confidence of the least confident stretch within the first so many tokens; NaN where none is known."""
    total = np.concatenate([[0.0], np.cumsum(confidences)])
    full = (total[WINDOW:] - total[:-WINDOW]) / WINDOW
    least = np.minimum.accumulate(full)
    found = []
    for cut in cuts:
        cut = min(cut, len(confidences))
        found.append(float(least[cut - WINDOW] if cut >= WINDOW else total[cut] / cut if cut else np.nan))
    return found
