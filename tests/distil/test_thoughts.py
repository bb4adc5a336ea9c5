"""What was thought is read back from the store as it was said, with what was appended to it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from jobs.distil.config import DistilConfig
from jobs.distil.questions import questions
from jobs.distil.run import SAMPLES, Thought, keep, tell
from jobs.distil.thoughts import decoded
from jobs.evaluate.grading.session import grading
from jobs.evaluate.run import sweep_of
from jobs.evaluate.samples import write_samples
from jobs.evaluate.traces.files import Index
from orchestrator.job.context import StepContext
from tests.collect.questions import read
from tests.evaluate import tiny
from tests.evaluate.spoken import Speaker, _decode

THOUGHTS, ANSWERS = ("s1u1m2",), ("Answer: 2",)


@pytest.mark.parametrize(
    ("policy", "trace", "answer"),
    [
        ({}, "s1u1m2", "Answer: 2"),
        ({"extensions": {"strings": ["Wait"], "counts": [2]}}, "s1u1m2Waits1u1m2Waits1u1m2", "Answer: 2"),
        ({"extensions": {"strings": ["Wait"], "counts": [1], "budgets": [8]}}, "s1u1m2", "Answer: 2"),
        ({"budgets": [4]}, "s1u1", "Final Answer:Answer: 2"),
    ],
)
def test_each_policy_gives_its_own_thinking(tmp_path: Path, policy: dict[str, object], trace: str, answer: str) -> None:
    model = tiny.save(tmp_path / "model", context_length=2048)
    fields = {"questions": [{"name": "letters", "items": 3}], "model": str(model), "keep": "all", **policy}
    config = DistilConfig.model_validate_json(json.dumps(fields))
    context = StepContext("experiment", "traces", "0", tmp_path / "step", tmp_path / "traces")
    context.output.mkdir(parents=True)
    asked = questions(config, {})
    sweep = sweep_of(config, context, asked.tasks)
    asyncio.run(_decode(sweep, Speaker(THOUGHTS, ANSWERS)))
    index = Index(sweep.folder, report=print)
    with grading(config, context, context.output) as grader:
        samples = context.output / SAMPLES
        write_samples(samples, sweep.questions, sweep.replica.trees, sweep.prompter, index, grader)
    thoughts = (Thought(text, sweep.model) for text in decoded(sweep))
    tell(config, context, sweep.model, keep(config, asked, samples, thoughts, context.output))
    rows = read(context.output / "train.jsonl")
    assert [row["trace"] for row in rows] == [trace] * 3
    assert [row["answer"].strip() for row in rows] == [answer] * 3
    assert {row["policy"] for row in rows} == {config.policies[0].name}
    assert str(model) in (context.output / "README.md").read_text()
