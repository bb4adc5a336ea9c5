"""The distil step: a sweep with one policy is decoded and graded, and what is kept of it becomes rows.

Decoding, grading, resuming and what it costs are the sweep's (:mod:`jobs.evaluate.run`). Everything here follows from
what that left in the store, so that keeping something else, or more, decodes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from jobs.distil.config import DistilConfig
from jobs.distil.keeping import RULES, Candidate, dropped
from jobs.distil.questions import Questions, questions
from jobs.distil.thoughts import decoded
from jobs.evaluate.chat.run import thoughts as chatted
from jobs.evaluate.grading.session import grading, was_graded_by
from jobs.evaluate.run import sample, sweep_of
from jobs.fates import DROPPED, Funnel
from jobs.made_dataset import Lines, describe, took
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError

SAMPLES = "samples.parquet"
ROWS = ("train.jsonl", "test.jsonl", DROPPED)
"""What a step makes: rows to learn from, questions to ask, and rows that were dropped."""


@dataclass(frozen=True)
class Thought:
    """What was thought of one sample, and by whom."""

    text: str
    model: str


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
    thoughts, model = _thoughts(config, context, asked)
    funnel = keep(config, asked, context.output / SAMPLES, thoughts, context.output)
    tell(config, context, model, funnel)


def _thoughts(config: DistilConfig, context: StepContext, asked: Questions) -> tuple[Iterator[Thought], str]:
    """What was thought of every sample, and what identifies the model, as the store has them."""
    if config.chat is None:
        sweep = sweep_of(config, context, asked.tasks)
        return (Thought(text, sweep.model) for text in decoded(sweep)), sweep.model
    model = str(config.served_model)
    return (Thought(text, model) for text in chatted(config, context, asked.tasks)), model


def keep(config: DistilConfig, asked: Questions, samples: Path, thoughts: Iterable[Thought], into: Path) -> Funnel:
    """Writes the rows where they belong, to files of :data:`ROWS` in `into`. `thoughts` are those of the `samples`, in
    their order. Raises StepError where none is kept."""
    stages: dict[str, list[tuple[str, str]]] = {"empty": [], "answers": []}
    came: dict[str, int] = {}
    known = {(task.name, item.id): (task.type, item) for task in asked.tasks for item in task.items}
    pairs = zip(_rows(samples), thoughts, strict=True)
    kept_file, questions_file, dropped_file = (into / name for name in ROWS)
    with Lines(kept_file) as kept, Lines(questions_file) as questioned, Lines(dropped_file) as gone:
        for (task, name), group in groupby(pairs, key=lambda pair: (pair[0]["task"], pair[0]["item"])):
            (kind, item), carried = known[task, name], asked.carried.get((task, name), {})
            source = str(carried.get("source", task))
            rows = [_row(config, item.question, carried, source, *each) for each in group]
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
    return funnel


def tell(config: DistilConfig, context: StepContext, model: str, funnel: Funnel) -> None:
    """Writes the card, and tracks what was made."""
    teacher = model if config.model is None else f"{config.model} ({model})"
    facts = {"teacher": teacher, "policy": config.policies[0].name, "keeps": config.keep}
    facts |= {"samples of a question": str(config.samples), "seed": str(config.seed)}
    if config.per_question is not None:
        facts["at most of a question"] = str(config.per_question)
    given = [took(each.path or each.dataset or each.name, context, each.revision) for each in config.tasks]
    graders = {name: str(value) for name, value in was_graded_by(context.output).items()}
    describe(context, "traces", funnel, facts, given, tags=graders)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _row(
    config: DistilConfig,
    question: str,
    carried: Mapping[str, Any],
    source: str,
    graded: Mapping[str, Any],
    thought: Thought,
) -> dict[str, Any]:
    return {
        **carried,
        "id": graded["item"],
        "question": question,
        "trace": thought.text,
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
        "model": thought.model,
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
