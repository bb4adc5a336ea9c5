"""What is written around a question: nothing, as in the paper, or a sentence that says where the answer should stand.

Each way is a variant with a name, which is part of what a sweep is: prompts that differ are not the same experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from types import MappingProxyType
from typing import Literal

PromptName = Literal["paper", "boxed", "answer"]

LETTERS = ascii_uppercase
"""What options are called, in their order."""

_SENTENCES: Mapping[PromptName, str] = MappingProxyType(
    {
        "paper": "",
        "boxed": "Please reason step by step, and put your final answer within \\boxed{}.",
        "answer": 'End with a line that begins with "Answer:" and has your final answer alone.',
    }
)


def asked(question: str, options: Sequence[str], prompt: PromptName) -> str:
    """The question as it is put to a model: its options below it as ``A) …``, and the sentence of the variant last."""
    listed = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return "\n\n".join(part for part in (question, listed, _SENTENCES[prompt]) if part)
