"""The lengths of traces in the tokens of the model that will learn from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from jobs.curate.config import CurateConfig
from jobs.curate.row import CurateRow
from jobs.finetune.tokenizer import load_tokenizer
from orchestrator.job.context import StepContext
from orchestrator.job.local_files import LocalPath
from orchestrator.job.outputs import Model
from orchestrator.job.references import Reference

AT_ONCE = 512
"""Traces: a tokenizer works on many in parallel."""


def counted(
    rows: Iterable[tuple[int, CurateRow]], config: CurateConfig, context: StepContext
) -> Iterator[tuple[int, CurateRow]]:
    """The rows with such lengths. Raises StepError where the tokenizer cannot be loaded."""
    source = config.tokenizer
    if isinstance(source, Reference):
        source = str(context.take(source, Model).folder)
    tokenizer = load_tokenizer(str(source.path) if isinstance(source, LocalPath) else str(source), None)
    waiting = iter(rows)
    while part := list(islice(waiting, AT_ONCE)):
        ids = tokenizer([row.trace for _, row in part], add_special_tokens=False)["input_ids"]
        for (place, row), own in zip(part, ids, strict=True):
            yield place, replace(row, length=len(own))
