"""The distil step: a sweep with one policy is decoded and graded, and what is kept of it becomes rows.

Decoding, grading, resuming and what it costs are the sweep's (:mod:`jobs.evaluate.run`). Everything here follows from
what that left in the store, so that keeping something else, or more, decodes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from jobs.distil.config import DistilConfig
from jobs.distil.keeping import RULES, Candidate, dropped
from jobs.distil.questions import Questions, questions
from jobs.distil.thoughts import decoded
from jobs.evaluate.chat.run import thoughts as chatted
from jobs.evaluate.grading.session import grading
from jobs.evaluate.run import sample, sweep_of
from jobs.fates import DROPPED, Funnel
from jobs.made_dataset import Lines, describe, took
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError

SAMPLES = "samples.parquet"


def run(config: DistilConfig, context: StepContext) -> None:
    """Writes ``train.jsonl``, ``test.jsonl``, ``dropped.jsonl``, ``funnel.json`` and ``README.md``, besides
    ``samples.parquet``, ``decode.json`` and ``grading.json`` as a sweep does."""
    began = time.monotonic()
    context.output.mkdir(parents=True, exist_ok=True)
    asked = questions(config, context.inputs)
    with grading(config, context, context.output) as grader:
        totals = sample(config, context, asked.tasks, context.output / SAMPLES, grader)
    totals["seconds"] = round(time.monotonic() - began, 3)
    (context.output / "decode.json").write_text(json.dumps(totals, indent=1))
    if config.chat is None:
        sweep = sweep_of(config, context, asked.tasks)
        thoughts, model = decoded(sweep), sweep.model
    else:
        thoughts, model = chatted(config, context, asked.tasks), str(config.served_model)
    write(config, context, asked, thoughts, model)


def write(config: DistilConfig, context: StepContext, asked: Questions, thoughts: Iterable[str], model: str) -> None:
    """Writes the rows where they belong. `thoughts` are those of the samples, in their order. Raises StepError where
    none is kept."""
    stages: dict[str, list[tuple[str, str]]] = {"empty": [], "answers": []}
    came: dict[str, int] = {}
    known = {(task.name, item.id): (task.type, item) for task in asked.tasks for item in task.items}
    samples = zip(_rows(context.output / SAMPLES), thoughts, strict=True)
    files = (context.output / name for name in ("train.jsonl", "test.jsonl", DROPPED))
    with Lines(next(files)) as kept, Lines(next(files)) as questioned, Lines(next(files)) as gone:
        for (task, name), group in groupby(samples, key=lambda pair: (pair[0]["task"], pair[0]["item"])):
            (kind, item), carried = known[task, name], asked.carried.get((task, name), {})
            source = str(carried.get("source", task))
            rows = [_row(config, model, item.question, carried, source, *each) for each in group]
            came[source] = came.get(source, 0) + len(rows)
            taken = _taken(config, rows, bool(item.answer))
            for row in rows:
                if (why := taken.get(row["sample"])) is None:
                    kept.add(row)
                else:
                    stage, reason = why
                    stages[stage].append((source, reason))
                    gone.add({**row, "stage": stage, "reason": reason})
            if item.answer and len(taken) < len(rows):
                questioned.add({"id": item.id, "question": item.question, "answer": item.answer, "type": kind})
    funnel = Funnel(came)
    for stage, drops in stages.items():
        funnel.add(stage, drops)
    if not sum(funnel.out.values()):
        causes = "; ".join(f"{count:,} {cause}" for each in funnel.stages for cause, count in each.causes().items())
        raise StepError(f"keep: {config.keep} keeps none of {sum(came.values()):,} samples: {causes}")
    teacher = model if config.model is None else f"{config.model} ({model})"
    facts = {"teacher": teacher, "policy": config.policies[0].name, "keeps": config.keep}
    facts |= {"samples of a question": str(config.samples), "seed": str(config.seed)}
    if config.per_question is not None:
        facts["at most of a question"] = str(config.per_question)
    given = [took(each.path or each.dataset or each.name, context, each.revision) for each in config.tasks]
    describe(context, "traces", funnel, facts, given)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _row(
    config: DistilConfig,
    model: str,
    question: str,
    carried: Mapping[str, Any],
    source: str,
    graded: Mapping[str, Any],
    thought: str,
) -> dict[str, Any]:
    return {
        **carried,
        "id": graded["item"],
        "question": question,
        "trace": thought,
        "answer": graded["answer"],
        "reference": graded["gold"],
        "verdict": graded["verdict"] if graded["gold"] else "ungraded",
        "meaning": graded["meaning"],
        "sample": graded["sample"],
        "seed": config.seed,
        "policy": graded["policy"],
        "thinking_end": graded["thinking_end"],
        "answer_end": graded["answer_end"],
        "thinking_tokens": graded["thinking_tokens"],
        "answer_tokens": graded["answer_tokens"],
        "model": model,
        "source": source,
    }


def _taken(config: DistilConfig, rows: list[dict[str, Any]], referenced: bool) -> dict[int, tuple[str, str]]:
    """By sample: the stage that drops it, and why. What says nothing is no example, whatever it is worth."""
    taken = {row["sample"]: ("empty", why) for row in rows if (why := _says_nothing(row))}
    candidates = [
        Candidate(row["sample"], row["verdict"], row["meaning"], row["thinking_tokens"] + row["answer_tokens"])
        for row in rows
        if row["sample"] not in taken
    ]
    drops = dropped(RULES[config.keep], config.per_question, candidates, referenced)
    return taken | {number: ("answers", why) for number, why in drops.items()}


def _says_nothing(row: Mapping[str, Any]) -> str | None:
    if not row["trace"].strip():
        return "no thinking"
    return None if row["answer"].strip() else "no answer text"
