"""A finished sweep whose model says what a test tells it to: real tokens, trees, trace files, samples and results.

Only decoding is not real, so it takes a second: the walker runs in this process, against an engine that speaks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import FORK, Walker
from jobs.evaluate.decode.watching import RuleWatch
from jobs.evaluate.engines.protocol import Chunk, Engine, Request
from jobs.evaluate.figures.costs import Costs
from jobs.evaluate.grading.reader import read
from jobs.evaluate.grading.session import grading
from jobs.evaluate.publish import publish
from jobs.evaluate.rows import write_rows
from jobs.evaluate.run import Sweep, missing, prepare
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment
from orchestrator.job.context import StepContext
from orchestrator.job.record import FinishedStep
from tests.evaluate import tiny

PROVENANCE = {"commit": "0123abc", "python": "3.11.9", "machine": "Linux x86_64", "packages": {"torch": "2.13.0"}}


COSTS = Costs(device="core", device_seconds=40.0, usd=0.5, device_seconds_per_token=0.1, usd_per_token=0.00125)
"""What such a sweep is said to have cost: 400 tokens in one attempt."""


@dataclass(frozen=True)
class Speaker:
    """An engine that thinks one of `thoughts` and answers one of `answers`, by the request's seed."""

    thoughts: Sequence[str]
    answers: Sequence[str]
    cache_tokens: int | None = None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        texts = self.answers if request.priority == FORK else self.thoughts
        tokens = tiny.tokenizer().encode(texts[request.seed % len(texts)], add_special_tokens=False)
        said = tokens[request.position :][: request.max_tokens]
        yield Chunk(said, "length" if len(said) == request.max_tokens else "stop")

    async def close(self) -> None:
        """Holds nothing."""


def finish(
    context: StepContext, fields: Mapping[str, Any], thoughts: Sequence[str], answers: Sequence[str]
) -> EvaluateConfig:
    """Does the step of `context`, up to its published results."""
    config = EvaluateConfig.model_validate_json(json.dumps(fields))
    sweep = prepare(config, context)
    asyncio.run(walk_all(sweep, Speaker(thoughts, answers)))
    conclude(config, context, sweep)
    return config


def conclude(config: EvaluateConfig, context: StepContext, sweep: Sweep) -> None:
    """Does what is left of a step whose sweep was decoded."""
    context.output.mkdir(parents=True, exist_ok=True)
    samples = context.output / "samples.parquet"
    index = Index(sweep.folder, report=print)
    with grading(config, context, context.output) as grader:
        alone = write_rows(config, samples, sweep.questions, sweep.replica.trees, sweep.prompter, index, grader)
    totals = {
        "units": sum(1 for _ in sweep.units),
        "thinking_tokens_decoded": 300,
        "answer_tokens_decoded": 100,
        "policies_alone_tokens": alone,
        "seconds": 2.5,
        "costs": COSTS.record(),
    }
    (context.output / "decode.json").write_text(json.dumps(totals))
    publish(config, context, samples, totals)


def finished(
    folder: Path, fields: Mapping[str, Any], thoughts: Sequence[str], answers: Sequence[str], name: str = "sweep"
) -> FinishedStep:
    """The step `name`, finished."""
    context = StepContext(
        "experiment", name, "0123456789abcdef", folder / f"{name}-0123456789abcdef", folder / "traces"
    )
    return FinishedStep(finish(context, fields, thoughts, answers), context, 12.0, PROVENANCE)


async def walk_all(sweep: Sweep, engine: Engine) -> int:
    """Decodes what is missing; returns how many tokens that were."""
    replica = sweep.replica
    segments: list[Segment] = []
    watch = None
    if replica.online is not None:
        watch = RuleWatch(replica.online, lambda texts: [read(text) for text in texts])
    for work in missing(sweep, Index(sweep.folder, report=print)):
        tree = replica.trees[work.unit.tree]
        walker = Walker(engine, tree, replica.forcing, replica.sampling, 0, segments.append, replica.beliefs, watch)
        await walker.walk(work.unit, work.trace(replica.forcing))
    write(sweep.folder, segments)
    return sum(len(segment.tokens) for segment in segments)
