"""Grading a finished step's samples again: what is kept follows from the verdicts, and so does the dataset.

Nothing is asked of the teacher, and nothing is read of its traces: what it thought stands in the rows that were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from filecmp import cmp as same
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from jobs.distil.config import DistilConfig
from jobs.distil.made_rows import RowsBySample, SampleName
from jobs.distil.questions import Questions, questions
from jobs.distil.run import ROWS, SAMPLES, Thought, keep, tell
from jobs.evaluate.regrade import graded_again
from orchestrator.job.context import StepContext
from orchestrator.job.record import Regraded


def regrade(config: DistilConfig, context: StepContext) -> Regraded:
    """Grades every answer of the finished step again. Raises StepError where its questions cannot be had any more, or
    where nothing would be kept: the dataset stays as it is then."""
    asked = questions(config, context.inputs)
    graded = graded_again(config, context, asked.tasks)
    samples = graded.staged / SAMPLES
    with RowsBySample(context.output) as made:
        funnel = keep(config, asked, samples, _thoughts(samples, asked, made), graded.staged)
        model = next(_thoughts(samples, asked, made)).model
    revised = any(not same(graded.staged / name, context.output / name, shallow=False) for name in ROWS)
    return graded.told(revised, partial(tell, config, context, model, funnel))


def _thoughts(samples: Path, asked: Questions, made: RowsBySample) -> Iterator[Thought]:
    """What was thought of every sample, in their order."""
    said = {(task.name, item.id): item.question for task in asked.tasks for item in task.items}
    for batch in pq.ParquetFile(samples).iter_batches(columns=["task", "item", "sample"]):
        for each in batch.to_pylist():
            row = made[SampleName.of(each["item"], each["sample"], said[each["task"], each["item"]])]
            yield Thought(row["trace"], row["model"])
