"""Traces and answers as an earlier commit wrote them, for every kind of policy of that time: folder ``stored``.

``python -m tests.evaluate.sweep.stored`` writes the folder anew, with what is checked out. That is to be done where
traces are meant to be decoded again, and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from array import array
from collections.abc import AsyncGenerator
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from transformers import GenerationConfig, Qwen2Config

from jobs.evaluate import run
from jobs.evaluate.chat import run as chat
from jobs.evaluate.chat.client import Answer
from jobs.evaluate.chat.replies import Asked, Replies
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Chunk, Request
from jobs.evaluate.grading.session import grading
from jobs.evaluate.publish import results
from jobs.evaluate.samples import write_samples
from jobs.evaluate.sweep.ledger import Ledger
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment
from orchestrator.job.context import StepContext
from tests.evaluate import tiny

STORED = Path(__file__).with_name("stored")
QUESTIONS = ("What is 1+1?", "What is 2+2?", "What is 3+3?", "x" * 150)
HEADER = "<|im_start|>"

DECODED: dict[str, Any] = {
    "budgets": [3, 8, "auto"],
    "extensions": {"strings": ["Wait", ""], "counts": [1, 2], "budgets": [24, "auto"]},
    "step_budgets": [1, 2],
    "baseline": True,
    "conditional": {"tokens": [4], "steps": [2], "classes": ["short"], "budget_forcing": True},
    "rejection": {"limits": [6], "max_tries": 3},
    "template": {"name": "think", "step": HEADER},
    "samples": 3,
    "temperature": 1.0,
    "max_answer_tokens": 8,
    "context_length": 240,
}
ASKED: dict[str, Any] = {
    "engine": "openai",
    "served_model": "m",
    "chat": {"budget": "thinking.budget_tokens"},
    "resources": {"server": {"url": "http://nowhere.invalid/v1"}},
    "efforts": ["high", "low"],
    "budgets": [8, 32],
    "baseline": True,
    "conditional": {"tokens": [16], "classes": ["long"]},
    "rejection": {"limits": [20], "max_tries": 2},
    "samples": 2,
}


def config(folder: Path, sweep: dict[str, Any]) -> EvaluateConfig:
    """The `sweep` on the questions, which are written to `folder`."""
    path = folder / "questions.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": f"q{number}", "question": text, "answer": str(number)}) + "\n"
            for number, text in enumerate(QUESTIONS)
        )
    )
    sweep = {"tasks": [{"name": "sums", "path": str(path), "type": "integer"}]} | sweep
    if "chat" not in sweep:
        sweep = {"model": str(STORED / "model")} | sweep
    return EvaluateConfig.model_validate_json(json.dumps(sweep))


def context(folder: Path, traces: Path) -> StepContext:
    """A step in `folder` that uses these `traces`."""
    found = StepContext("experiment", "sweep", "step", folder / "step", traces)
    found.output.mkdir(parents=True)
    return found


def decoded(folder: Path, traces: Path) -> tuple[int, str]:
    """What of the decoded sweep is missing in `traces`, in units, and its account."""
    asked, step = config(folder, DECODED), context(folder, traces)
    sweep = run.prepare(asked, step)
    index = Index(sweep.folder, report=print)
    samples = step.output / "samples.parquet"
    lacking = len(run.missing(sweep, index))
    if not lacking:
        with grading(asked, step, step.output) as grader:
            write_samples(samples, sweep.questions, sweep.replica.trees, sweep.prompter, index, grader)
    return lacking, "" if lacking else account(asked, samples)


def answered(folder: Path, traces: Path) -> str:
    """The account of the chat server's sweep. Nobody answers at its address: whatever is asked again fails."""
    asked, step = config(folder, ASKED), context(folder, traces)
    samples = step.output / "samples.parquet"
    with grading(asked, step, step.output) as grader:
        chat.answer(asked, step, run.tasks_of(asked, step), samples, grader)
    return account(asked, samples)


LETTERS = tiny.tokenizer().encode("0123abc\n")
SINCE = ("score", "scorer_tokens")
"""What ledgers had not then. Of these policies both say nothing."""
LEDGER = [field.name for field in fields(Ledger) if field.name not in SINCE]


def account(asked: EvaluateConfig, samples: Path) -> str:
    """The ledger of every row, and how the policies are arranged in curves and methods."""
    rows = pd.read_parquet(samples)[LEDGER].to_csv(index=False)
    found = results(asked, samples)
    curves = {curve.name: [curve.label(point) for point in curve.points] for curve in found.curves}
    methods = {method.name: method.policies for method in found.methods}
    return rows + json.dumps([curves, methods], indent=1) + "\n"


@dataclass(frozen=True)
class Scripted:
    """An engine whose tokens follow from the prefix and the stream: digits, letters, newlines, headers and stops."""

    header: int
    cache_tokens: int | None = None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        prefix = list(request.prompt)
        for count in range(request.max_tokens):
            key = (request.seed % 3).to_bytes(8)
            digest = hashlib.blake2b(array("i", prefix).tobytes(), digest_size=4, key=key).digest()
            if digest[0] < 20 and not (request.forbid_stop_first and count == 0):
                yield Chunk([], "stop")
                return
            letters = [token for token in LETTERS if token not in request.forbidden]
            token = self.header if digest[1] < 50 else letters[digest[2] % len(letters)]
            prefix.append(token)
            yield Chunk([token], "length" if count + 1 == request.max_tokens else None)

    async def close(self) -> None:
        """Holds nothing."""


def make() -> None:
    """Writes the folder anew."""
    shutil.rmtree(STORED, ignore_errors=True)
    tokenizer = tiny.tokenizer()
    tokenizer.save_pretrained(STORED / "model")
    shape = Qwen2Config(vocab_size=272, max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id)
    shape.save_pretrained(STORED / "model")
    GenerationConfig(eos_token_id=tokenizer.eos_token_id).save_pretrained(STORED / "model")
    for keep in (keep_traces, keep_answers, keep_accounts):
        with TemporaryDirectory() as folder:
            keep(Path(folder), STORED / "traces")


def keep_traces(folder: Path, traces: Path) -> None:
    """Decodes the first sweep."""
    sweep = run.prepare(config(folder, DECODED), context(folder, traces))
    engine = Scripted(tiny.tokenizer().convert_tokens_to_ids(HEADER))
    kept: list[Segment] = []
    replica = sweep.replica
    for work in run.missing(sweep, Index(sweep.folder, report=print)):
        tree = replica.trees[work.unit.tree]
        walker = Walker(engine, tree, replica.forcing, replica.sampling, replica.seed, kept.append)
        asyncio.run(walker.walk(work.unit, work.trace(replica.forcing)))
    write(sweep.folder, kept)


def keep_answers(folder: Path, traces: Path) -> None:
    """Has an answer to each request of the chat server's sweep."""

    def reply(asked: Asked) -> Answer:
        number = hashlib.blake2b(repr(asked).encode(), digest_size=1).digest()[0]
        return Answer(f"Final Answer: {number % 4}", number % 40, 3, "stop")

    async def answered_at_once(_: Any, chat: Any, step: Any, missing: Any, replies: Replies, total: int) -> None:
        replies.add((asked, reply(asked)) for asked in missing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat, "_ask", answered_at_once)
        answered(folder, traces)


def keep_accounts(folder: Path, traces: Path) -> None:
    """Writes down what these come to."""
    (folder / "second").mkdir()
    (STORED / "decoded.csv").write_text(decoded(folder, traces)[1])
    (STORED / "answered.csv").write_text(answered(folder / "second", traces))


if __name__ == "__main__":
    make()
