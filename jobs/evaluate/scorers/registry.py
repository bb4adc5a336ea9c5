"""The scorers that an experiment file can name: one record each, of what it is and takes. Light.

Installed packages add theirs by the entry points of ``scaling_orchestrator.scorers``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from orchestrator.job.extensions import ExtensionPoint, known, lazy

if TYPE_CHECKING:
    from jobs.evaluate.scorers.protocol import Scorer, ScorerSpec


@dataclass(frozen=True)
class ScorerKind:
    """What can score."""

    start: Callable[[ScorerSpec], Awaitable[Scorer]]
    """Starts it in the calling process. Raises EngineError."""
    description: str
    needs: tuple[str, ...] = ()
    """Fields of the experiment file that it cannot do without."""
    takes: tuple[str, ...] = ()
    """Others that mean something to it."""
    likelihoods: bool = False
    """Whether its engine has to say how likely tokens are."""
    reads_answers: bool = False
    """Whether it is asked about a trace together with the answer that the trace gives where it stands."""


SCORERS: ExtensionPoint[ScorerKind] = ExtensionPoint(
    "scaling_orchestrator.scorers",
    ScorerKind,
    {
        "exact": ScorerKind(
            start=lazy("jobs.evaluate.scorers.exact:start"),
            description="the grader's verdict on what the trace would answer where it stands: an upper bound",
            reads_answers=True,
        ),
        "generative": ScorerKind(
            start=lazy("jobs.evaluate.scorers.generative:start"),
            description="how likely a language model is to write what stands for a good step, rather than a bad one",
            needs=("model", "good", "bad"),
            takes=("engine", "tag", "window"),
            likelihoods=True,
        ),
        "process": ScorerKind(
            start=lazy("jobs.evaluate.scorers.pooling:start_process"),
            description="a process reward model's chance that the latest step is good, at the tag after it; by vllm",
            needs=("model", "tag"),
            takes=("window",),
        ),
        "outcome": ScorerKind(
            start=lazy("jobs.evaluate.scorers.pooling:start_outcome"),
            description="an outcome reward model's score of the trace with the answer that it would give; by vllm",
            needs=("model",),
            takes=("window",),
            reads_answers=True,
        ),
    },
)
"""By the names that experiment files have for them."""

ScorerName = Annotated[str, known(SCORERS)]
"""As a field of a config."""
