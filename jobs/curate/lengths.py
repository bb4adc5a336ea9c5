"""The lengths of traces in the tokens of the model that will learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobs.curate.config import CurateConfig
from jobs.curate.row import CurateRow
from jobs.finetune.tokenizer import load_tokenizer
from orchestrator.job.context import StepContext
from orchestrator.job.local_files import LocalPath
from orchestrator.job.outputs import Model
from orchestrator.job.references import Reference

AT_ONCE = 512
"""Traces: a tokenizer works on many in parallel."""


def counted(rows: Sequence[CurateRow], config: CurateConfig, context: StepContext) -> list[CurateRow]:
    """The rows with such lengths. Raises StepError where the tokenizer cannot be loaded."""
    source = config.tokenizer
    if isinstance(source, Reference):
        source = str(context.take(source, Model).folder)
    tokenizer = load_tokenizer(str(source.path) if isinstance(source, LocalPath) else str(source), None)
    measured: list[CurateRow] = []
    for at in range(0, len(rows), AT_ONCE):
        part = rows[at : at + AT_ONCE]
        ids = tokenizer([row.trace for row in part], add_special_tokens=False)["input_ids"]
        measured += [replace(row, length=len(tokens)) for row, tokens in zip(part, ids, strict=True)]
    return measured
