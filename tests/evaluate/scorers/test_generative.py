from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from jobs.evaluate.engines.protocol import Chunk, Request
from jobs.evaluate.scorers.generative import GenerativeScorer
from jobs.evaluate.scorers.layout import verdict_layout
from jobs.evaluate.scorers.protocol import ScorerSpec, Standing, Writer
from jobs.evaluate.sweep.chat_template import Instructions
from jobs.evaluate.tasks.task import Item, Task
from jobs.template import TEMPLATES
from tests.evaluate import tiny

TOKENIZER = tiny.tokenizer()


@dataclass
class Teller:
    """An engine that says what it was told to, and remembers what it was asked."""

    logarithms: tuple[float, float]
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append((request.prompt, request.among))
        yield Chunk([0], "length", chances=[self.logarithms])

    async def close(self) -> None:
        """Holds nothing."""


@pytest.mark.parametrize(
    ("logarithms", "score"),
    [((math.log(0.6), math.log(0.2)), 0.75), ((-1.0, -1.0), 0.5), ((-5000.0, -1.0), 0.0), ((-1.0, -5000.0), 1.0)],
)
def test_the_score_is_the_chance_of_good_of_the_two(logarithms: tuple[float, float], score: float) -> None:
    writer = Writer(TOKENIZER, TEMPLATES["think"], (TOKENIZER.eos_token_id,), Instructions())
    task = Task("sums", (Item("a", "What is 1+1?", "2"),))
    spec = ScorerSpec("generative", (task,), {"u": (0, "a")}, writer, reader=writer, window=200, good="+", bad="-")
    engine: Any = Teller(logarithms)
    steps = tuple(tuple(TOKENIZER.encode(text)) for text in ("\none\n", "two"))
    said = asyncio.run(GenerativeScorer(spec, engine, verdict_layout(spec)).score(Standing("u", steps, None, None)))
    assert said.value == pytest.approx(score, abs=1e-9)
    ((prompt, among),) = engine.asked
    assert said.read == len(prompt), "all of it, whatever a cache had"
    assert among == tuple(TOKENIZER.encode("+-"))
    assert TOKENIZER.decode(prompt).endswith(
        "What is 1+1?<|im_end|><|im_start|>assistant\n<think>\none\ntwo\n</think>\nAnswer: "
    )
