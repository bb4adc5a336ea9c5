"""The scorer of a sweep: what identifies it, and what a replica starts it from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.session import graded_by
from jobs.evaluate.scorers.config import Search
from jobs.evaluate.scorers.protocol import ScorerSpec, Writer
from jobs.evaluate.scorers.registry import ScorerKind
from jobs.evaluate.tasks import Task
from orchestrator.job.context import StepContext


@dataclass(frozen=True)
class ResolvedScorer:
    """A scorer, with all that it needs but for the units that it will be asked about."""

    identity: str
    """Changes whenever it could say something else. Scores are kept under it."""
    kind: ScorerKind
    spec: ScorerSpec


def resolve(
    search: Search, config: EvaluateConfig, context: StepContext, writer: Writer, tasks: Sequence[Task]
) -> ResolvedScorer:
    """Raises StepError where the scorer cannot be used."""
    scorer = search.scorer
    identity: dict[str, object] = {"kind": scorer.kind}
    if scorer.record.reads_answers:
        # The verdict is part of the score.
        identity |= {"grader": graded_by(), "tasks": sorted(task.hash for task in tasks)}
    spec = ScorerSpec(scorer.kind, tuple(tasks), {}, writer)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return ResolvedScorer(digest[:16], scorer.record, spec)
