"""Probes from a file of graded samples: which row is which probe of which sample, and the matrices of those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from jobs.evaluate.samples import SCHEMA
from jobs.evaluate.stopping.probes import SILENT, Ints, Probes
from orchestrator.job.errors import StepError

TEXTS = (
    *("item", "policy", "thinking_end", "answer_end", "answer", "task", "gold", "extracted", "rule", "meaning"),
    "verdict",
)


@dataclass(frozen=True)
class ProbedTask:
    """The probes of one task."""

    task: str
    items: tuple[str, ...]
    policies: tuple[str, ...]
    """The names of the policies whose answers the probes are, in the order of columns."""
    frame: pd.DataFrame
    """The rows of the file that are its own."""
    rows: Ints
    """Of `frame`, ``[items, samples, probes]``."""
    probes: Probes

    def of(self, policies: Sequence[str]) -> ProbedTask:
        """As if only these probes had been made, as far as they were."""
        names = [name for name in policies if name in self.policies]
        places = [self.policies.index(name) for name in names]
        probes = self.probes.of(places) if places else self.probes.of([0])
        return replace(self, policies=tuple(names), rows=self.rows[:, :, places], probes=probes)

    def columns(self, policies: Sequence[str]) -> list[int]:
        """Where the probes of `policies` are. Raises StepError where one is not there."""
        places = {name: place for place, name in enumerate(self.policies)}
        if missing := [name for name in policies if name not in places]:
            raise StepError(f"stopping: {self.task} has no probe at {missing[0]}: there are {', '.join(self.policies)}")
        return [places[name] for name in policies]


def read(path: Path, policies: Sequence[str], texts: bool = True) -> Iterator[ProbedTask]:
    """The probes in a ``probes.parquet``, or in a ``samples.parquet``, task by task; `policies` name them in the order
    of their tokens. Those that a file lacks are left out. `texts` is whether the rows have all of their fields, which
    only those need who write some of them. Raises StepError where some samples lack what others have."""
    there = set(pq.read_schema(path).names)
    skipped = () if texts else ("answer",)
    columns = [name for name in pq.read_schema(path).names if name not in skipped]
    dictionaries = [name for name in TEXTS if name in there]
    table = pq.read_table(path, columns=columns, read_dictionary=dictionaries, filters=[("policy", "in", policies)])
    whole = table.to_pandas()
    for task in dict.fromkeys(whole["task"]):
        frame = whole[whole["task"] == task].reset_index(drop=True)
        yield _task(str(task), frame, [name for name in policies if (frame["policy"] == name).any()])


def _task(task: str, frame: pd.DataFrame, policies: Sequence[str]) -> ProbedTask:
    places = {name: place for place, name in enumerate(policies)}
    names, items = np.unique(frame["item"].astype(str).to_numpy(dtype=object), return_inverse=True)
    samples = frame["sample"].to_numpy(dtype=np.int64)
    shape = (len(names), int(samples.max(initial=0)) + 1, len(policies))
    rows = np.full(shape, -1, dtype=np.int64)
    rows[items, samples, frame["policy"].map(places).to_numpy(dtype=np.int64)] = np.arange(len(frame))
    if (rows < 0).any():
        item, sample, probe = (int(each[0]) for each in np.nonzero(rows < 0))
        raise StepError(f"stopping: {task} has no answer of {names[item]}, sample {sample}, at {policies[probe]}")
    live = (frame["thinking_end"] == "forced").to_numpy()[rows]
    live[:, :, -1] = False
    kept = [str(name) for name in frame.columns if name not in SCHEMA.names]
    probes = Probes(
        thinking=frame["thinking_tokens"].to_numpy(dtype=np.int64)[rows],
        answer_tokens=frame["answer_tokens"].to_numpy(dtype=np.int64)[rows],
        answer=_answers(frame, items)[rows],
        correct=(frame["verdict"] == "correct").to_numpy()[rows],
        live=live,
        signals={name: frame[name].to_numpy(dtype=np.float64)[rows] for name in kept},
    )
    return ProbedTask(task, tuple(map(str, names)), tuple(policies), frame, rows, probes)


def _answers(frame: pd.DataFrame, items: Ints) -> Ints:
    """Which answer each row gives, among those to its item."""
    said = frame["extracted"].astype(object)
    if "meaning" in frame:  # which samples of before have not
        said = frame["meaning"].astype(object).fillna(said)
    codes = pd.factorize(said)[0].astype(np.int64)  # those of no answer are -1
    known = codes >= 0
    answers = np.full(len(frame), SILENT, dtype=np.int64)
    kinds = items[known] * (int(codes.max(initial=0)) + 1) + codes[known]
    answers[known] = np.unique(kinds, return_inverse=True)[1]
    return answers
