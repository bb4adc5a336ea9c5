"""What some rules look at besides answers: read from the traces once they are decoded, and kept with the probes.

Each is a column of ``probes.parquet``: of an answer that was forced after so many tokens of thinking, what those tokens
say. Traces are long, so they are read only for rules that ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.samples import SCHEMA, SampledPrompt
from jobs.evaluate.stopping.replay import PROBES
from jobs.evaluate.stopping.waiting import waits
from jobs.evaluate.sweep.policies.stopping import Stopped
from jobs.evaluate.sweep.policy import Policy, Root
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.traces.files import Index, read_tokens
from jobs.evaluate.traces.segments import TRUNK

COLUMNS = ("waits",)
"""In the order of the file."""


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
            writer.write_table(pa.Table.from_pylist(list(_with(rows, units, prompter, index)), schema))
    temporary.rename(probes)


def _with(
    rows: Sequence[dict[str, Any]], units: Mapping[tuple[str, str, int], str], prompter: Prompter, index: Index
) -> Iterator[dict[str, Any]]:
    """Rows with what they lack; those of a sample follow one another."""
    for (task, item, sample), of_sample in groupby(rows, lambda row: (row["task"], row["item"], row["sample"])):
        probes = list(of_sample)
        cuts = [probe["thinking_tokens"] for probe in probes]
        tokens = _trunk(units[task, item, sample], sample, index)
        for probe, count in zip(probes, waits(tokens, cuts, prompter.pieces), strict=True):
            yield {**probe, "waits": count}


def _trunk(unit: str, sample: int, index: Index) -> list[int]:
    """All thinking of a sample before anything is appended to it."""
    rows = sorted((row for row in index.unit(unit, sample).rows if row.key == TRUNK), key=lambda row: row.start)
    return [token for part in read_tokens(index.places(rows)) for token in part]
