"""The published benchmarks: where each is kept, at which commit, and what its columns are called. Light.

A name and a commit on Hugging Face's hub give the same bytes to everyone for as long as the hub keeps them. Where a
file of one's own stands in for it (``{name: math500, path: math500.jsonl}``) its columns may be called as in the copies
that go around, so a field has a list of names, of which the first that a row has is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.evaluate.grading.answer_type import AnswerType
from orchestrator.job.extensions import ExtensionPoint


@dataclass(frozen=True)
class Columns:
    """What a row's fields are called, each by the names it may have."""

    id: tuple[str, ...] = ("id",)
    question: tuple[str, ...] = ("question",)
    answer: tuple[str, ...] = ("answer",)
    options: tuple[str, ...] = ("options",)
    """The texts to choose from, in one column."""
    wrong_options: tuple[str, ...] = ()
    """Or: the columns of the wrong options, `answer` being the text of the right one."""


OWN_COLUMNS = Columns()
"""Of a user's own file."""


@dataclass(frozen=True)
class Benchmark:
    """A published set of questions at one commit."""

    dataset: str
    """Its name on the hub."""
    revision: str
    """The commit."""
    split: str
    type: AnswerType
    items: int
    columns: Columns
    subset: str | None = None
    thinking_tokens: float | None = None
    """In the mean, without forcing, as published; what plans of sweeps reckon with."""
    gated: bool = False
    """Whether its authors ask for an agreement before it can be downloaded."""

    @property
    def page(self) -> str:
        """Where people read about it, and ask for access."""
        return f"https://huggingface.co/datasets/{self.dataset}"


# Thinking tokens: the s1 paper's scaling figure, and its sequence-length table.
BENCHMARKS: ExtensionPoint[Benchmark] = ExtensionPoint(
    "scaling_orchestrator.benchmarks",
    Benchmark,
    {
        "aime24": Benchmark(
            dataset="HuggingFaceH4/aime_2024",
            revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            split="train",
            type="integer",
            items=30,
            thinking_tokens=6109,
            columns=Columns(question=("problem",), answer=("answer", "expected_answer")),
        ),
        "aime25": Benchmark(
            dataset="math-ai/aime25",
            revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
            split="test",
            type="integer",
            items=30,
            thinking_tokens=6109,
            columns=Columns(question=("problem",)),
        ),
        "math500": Benchmark(
            dataset="HuggingFaceH4/MATH-500",
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
            split="test",
            type="math",
            items=500,
            thinking_tokens=3268,
            columns=Columns(id=("unique_id",), question=("problem",)),
        ),
        "gpqa_diamond": Benchmark(
            dataset="Idavidrein/gpqa",
            subset="gpqa_diamond",
            revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
            split="train",
            type="choice",
            items=198,
            thinking_tokens=3568,
            columns=Columns(
                id=("Record ID",),
                question=("Question",),
                answer=("Correct Answer",),
                wrong_options=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
            ),
            gated=True,
        ),
    },
)
