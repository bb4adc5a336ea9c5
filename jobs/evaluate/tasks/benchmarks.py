"""The published benchmarks: where each is kept, at which commit, and what its columns are called. Light.

A name and a commit on Hugging Face's hub give the same bytes to everyone for as long as the hub keeps them. Where a
file of one's own stands in for it (``{name: math500, path: math500.jsonl}``) its columns may be called as in the copies
that go around, so a field has a list of names, of which the first that a row has is taken.

Each commit here is one that several public projects pin the same dataset to.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.job.extensions import ExtensionPoint


@dataclass(frozen=True)
class Columns:
    """What a row's fields are called, each by the names it may have."""

    id: tuple[str, ...] = ("id",)
    """Empty: the rows are numbered, from 1."""
    question: tuple[str, ...] = ("question",)
    answer: tuple[str, ...] = ("answer",)
    options: tuple[str, ...] = ("options",)
    """The texts to choose from, in one column."""
    wrong_options: tuple[str, ...] = ()
    """Or: the columns of the wrong options, `answer` being the text of the right one."""
    each_option: tuple[str, ...] = ()
    """Or: a column for each option."""
    picture: str | None = None
    """Rows that have something there are left out: models are asked in text."""


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
    type: str
    """In :data:`jobs.evaluate.grading.answer_type.ANSWER_TYPES`."""
    items: int | None
    """Those that are asked; None where nobody has counted."""
    columns: Columns
    subset: str | None = None
    files: tuple[str, ...] | None = None
    """Patterns of those that its rows are in, where the dataset has others that are large."""
    thinking_tokens: float | None = None
    """In the mean, without forcing, as published; what plans of sweeps reckon with."""
    gated: bool = False
    """Whether its authors ask for an agreement before it can be downloaded."""

    @property
    def page(self) -> str:
        """Where people read about it, and ask for access."""
        return page(self.dataset)


def page(dataset: str) -> str:
    """Where people read about a dataset of the hub."""
    return f"https://huggingface.co/datasets/{dataset}"


MATH_ARENA = Columns(id=("problem_idx",), question=("problem",))
"""Of the competitions that MathArena keeps."""

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
        "aime26": Benchmark(
            dataset="MathArena/aime_2026",
            revision="10b4e45b7a503075d4da8a0d57916a4f06ce6bd2",
            split="train",
            type="integer",
            items=30,
            columns=MATH_ARENA,
        ),
        "hmmt_feb25": Benchmark(
            dataset="MathArena/hmmt_feb_2025",
            revision="6fdc4277120810ff75aa22d2d5489b91f7a262a1",
            split="train",
            type="math",
            items=30,
            columns=MATH_ARENA,
        ),
        "hmmt_feb26": Benchmark(
            dataset="MathArena/hmmt_feb_2026",
            revision="02fba4f74d8e68e73e66a02d540fd979c05c274c",
            split="train",
            type="math",
            items=33,
            columns=MATH_ARENA,
        ),
        "brumo25": Benchmark(
            dataset="MathArena/brumo_2025",
            revision="6de9bc0987f5710c6376ee980e1483dbeb55cfda",
            split="train",
            type="math",
            items=30,
            columns=MATH_ARENA,
        ),
        "gsm8k": Benchmark(
            dataset="openai/gsm8k",
            subset="main",
            revision="740312add88f781978c0658806c59bc2815b9866",
            split="test",
            type="integer",
            items=1319,
            columns=Columns(id=()),
        ),
        "mmlu_pro": Benchmark(
            dataset="TIGER-Lab/MMLU-Pro",
            revision="b189ec765aa7ed75c8acfea42df31fdae71f97be",
            split="test",
            type="choice",
            items=12_032,
            columns=Columns(id=("question_id",)),
        ),
        "supergpqa": Benchmark(
            dataset="m-a-p/SuperGPQA",
            revision="4430d4458112c7d4497fdcf94d7cc223313d6acf",
            split="train",
            type="choice",
            items=26_529,
            columns=Columns(id=("uuid",), answer=("answer_letter",)),
        ),
        "olympiadbench": Benchmark(
            dataset="Hothan/OlympiadBench",
            subset="OE_TO_maths_en_COMP",
            revision="91184b52131e7fc9455fef848035173aea8cc01a",
            split="train",
            type="math",
            items=674,
            columns=Columns(answer=("final_answer",)),
            files=("README.md", "OlympiadBench/OE_TO_maths_en_COMP/*"),
        ),
        "omni_math": Benchmark(
            dataset="KbsdJames/Omni-MATH",
            revision="40ba231d8f16e29ecd40e6407e2c8640145a8f62",
            split="test",
            type="judged",
            items=4428,
            columns=Columns(id=(), question=("problem",)),
        ),
        "hle": Benchmark(
            dataset="cais/hle",
            revision="5a81a4c7271a2a2a312b9a690f0c2fde837e4c29",
            split="test",
            type="judged",
            items=2158,
            columns=Columns(picture="image"),
            gated=True,
        ),
    },
)
