"""Writes the built-in task as a dataset: traces to learn from, and held-out questions.

``train.jsonl`` has question, trace and answer in each line, ``test.jsonl`` has id, question and answer. The answers of
labelled traces say whether the trace was right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from io import TextIOWrapper
from pathlib import Path

from jobs.letters.config import LettersConfig
from jobs.letters.generator import held_out, labelled, training
from orchestrator.job.context import StepContext
from orchestrator.store.manifest import hashed_file

_PROGRESS_EVERY = 10_000


def run(config: LettersConfig, context: StepContext) -> None:
    """Writes both files into the step's output."""
    context.output.mkdir(parents=True, exist_ok=True)
    test = held_out(config.test, config.seed)
    _write(
        context.output / "test.jsonl",
        ({"id": question.id, "question": question.text, "answer": question.answer} for question in test),
    )

    def train() -> Iterable[Mapping[str, str]]:
        made = labelled if config.labelled else training
        for done, (question, trace) in enumerate(made(config.train, config.seed)):
            if done % _PROGRESS_EVERY == 0:
                context.progress(done, config.train, "traces")
            answer = trace.answer if config.labelled else f"Final Answer: {trace.answer}"
            yield {"question": question.text, "trace": trace.text, "answer": answer}

    _write(context.output / "train.jsonl", train())
    context.progress(config.train, config.train, "traces")


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with TextIOWrapper(hashed_file(path), encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
