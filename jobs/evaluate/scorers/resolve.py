"""The scorer of a sweep: what identifies it, and what a replica starts it from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines import model as models
from jobs.evaluate.engines.protocol import EngineSpec
from jobs.evaluate.engines.registry import chosen
from jobs.evaluate.grading.session import graded_by
from jobs.evaluate.scorers.config import ScorerField, SearchField, as_model, complaints
from jobs.evaluate.scorers.layout import VERSION, Layout, check, layout
from jobs.evaluate.scorers.protocol import ScorerSpec, Writer
from jobs.evaluate.scorers.registry import ScorerKind
from jobs.evaluate.tasks import Task
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.references import Reference


@dataclass(frozen=True)
class ResolvedScorer:
    """A scorer, with all that it needs but for the units that it will be asked about."""

    identity: str
    """Changes whenever it could say something else. Scores are kept under it."""
    kind: ScorerKind
    spec: ScorerSpec


def resolve(
    search: SearchField, config: EvaluateConfig, context: StepContext, writer: Writer, tasks: Sequence[Task]
) -> ResolvedScorer:
    """Raises StepError where the scorer cannot be used."""
    scorer = search.scorer
    identity: dict[str, object] = {"kind": scorer.kind}
    spec = ScorerSpec(scorer.kind, tuple(tasks), {}, writer)
    if config.scorer_is_told:
        # The verdict is the score.
        identity |= {"grader": graded_by(), "tasks": sorted(task.hash for task in tasks)}
    if scorer.model is not None:
        spec, model = _with_model(spec, scorer, config, context)
        identity |= {"model": model, **{name: getattr(scorer, name) for name in ("good", "bad", "tag")}}
        identity |= {"window": spec.window, "layout": VERSION}
        assert spec.reader is not None, "it has a model"
        check(search, spec.reader, spec.window)
        _check_window(spec, search, layout(spec))
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return ResolvedScorer(digest[:16], scorer.record, spec)


def _with_model(
    spec: ScorerSpec, scorer: ScorerField, config: EvaluateConfig, context: StepContext
) -> tuple[ScorerSpec, str]:
    """What starts the scorer's model, and what identifies it."""
    with complaints():
        model = models.resolve(as_model(scorer, config), context)
    resources, apart = config.resources, bool(config.scorers_apart)
    cards = resources.scorer.gpus
    gpus = cards if apart else cards or resources.gpus
    engine = EngineSpec(
        name=chosen(scorer.engine, gpus),
        model=model.source,
        revision=model.revision,
        adapter=model.adapter,
        dtype=model.dtype,
        context_length=model.context_length,
        vocabulary=len(model.tokenizer),
        gpus=gpus,
        cpus=resources.scorer.cpus if apart else resources.cpus,
        memory=None if cards or apart else resources.scorer.memory,
        first_gpu=resources.gpus if cards and not apart else 0,
    )
    made = context.input(scorer.model) if isinstance(scorer.model, Reference) else None
    reader = Writer(model.tokenizer, spec.writer.template, model.end_of_turn, spec.writer.said)
    spec = replace(spec, engine=engine, made=made, reader=reader, window=model.context_length)
    return replace(spec, good=scorer.good or "", bad=scorer.bad or "", tag=scorer.tag), model.identity


def _check_window(spec: ScorerSpec, search: SearchField, written: Layout) -> None:
    """Raises StepError for a question that leaves no room for a step."""
    for task in spec.tasks:
        for item in task.items:
            taken = written.around(item.question)
            if taken + search.steps.tokens > spec.window:
                raise StepError(
                    f"search.scorer.window: {spec.window} tokens do not hold the question {item.id} of {task.name}, "
                    f"which takes {taken}, and a step of {search.steps.tokens}: raise it, or lower search.steps.tokens"
                )
