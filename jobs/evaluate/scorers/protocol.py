"""What a scorer is asked, and what it says.

A scorer says how good a trace is up to where it stands, as a number: higher is better. It is asked by the walker of a
search, in the replica's process, about many traces at once, and is free to batch them. What it read for its answer is
counted, because a search costs that too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobs.evaluate.tasks import Task

if TYPE_CHECKING:
    from jobs.evaluate.engines.protocol import EngineSpec
    from jobs.evaluate.sweep.chat_template import Instructions
    from jobs.template import ThinkingTemplate
    from orchestrator.job.context import StepInput


class Standing(NamedTuple):
    """A trace as far as it goes, in the tokens of the model that wrote it."""

    unit: str
    """:attr:`jobs.evaluate.sweep.prompts.Unit.item`."""
    steps: tuple[tuple[int, ...], ...]
    """Its steps so far; one at least."""
    closing: str | None
    """What was appended to have it answered; None where thinking ended by itself, and where nothing was answered."""
    answer: tuple[int, ...] | None
    """What it then answered. None for scorers that do not read answers."""


class StepScore(NamedTuple):
    """What a scorer says."""

    value: float
    read: int
    """Tokens that it read for that, in its own tokens."""


class Scorer(Protocol):
    """Scores any number of traces at once. Not for use from several event loops."""

    async def score(self, standing: Standing) -> StepScore:
        """Raises EngineError when the scorer fails."""

    async def close(self) -> None:
        """Frees everything that it holds; its processes are gone when this returns."""


@dataclass(frozen=True)
class Writer:
    """What it takes to read what a model wrote, and to write for it."""

    tokenizer: Any
    template: ThinkingTemplate
    end_of_turn: tuple[int, ...]
    said: Instructions


@dataclass(frozen=True)
class ScorerSpec:
    """What a scorer is started with, the same on every replica."""

    kind: str
    """In :data:`jobs.evaluate.scorers.registry.SCORERS`."""
    tasks: tuple[Task, ...]
    items: Mapping[str, tuple[int, str]]
    """Of each unit the number of its task and the id of its item."""
    writer: Writer
    engine: EngineSpec | None = None
    """What runs its model; None for a scorer without one."""
    reader: Writer | None = None
    """What it takes to write for its model."""
    made: StepInput | None = None
    """The step that made the model."""
    window: int = 0
    """Tokens of a prompt, at most."""
    good: str = ""
    bad: str = ""
    tag: str | None = None
    """As the experiment file has them."""

    def question(self, unit: str) -> str:
        """What the trace is about."""
        number, item = self.items[unit]
        return self.tasks[number].by_id[item].question

    def texts(self, standing: Standing) -> list[str]:
        """What the steps of a trace say, special tokens included. A character that lies across two steps is in the
        later one."""
        whole: list[int] = []
        texts: list[str] = []
        for step in standing.steps:
            whole += step
            said: str = self.writer.tokenizer.decode(whole, skip_special_tokens=False)
            texts.append(said.rstrip("\ufffd")[sum(map(len, texts)) :])
        return texts
