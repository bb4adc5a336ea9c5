"""Questions, traces and answers as token ids, and which of them are learned.

A sample is rendered as evaluation will see it: ``<chat prompt> open trace close answer <end of turn>``. Each delimiter
is tokenised alone, because that is how evaluation appends it. Everything after the prompt is learned, the opening
delimiter included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from jobs.template import ThinkingTemplate
from orchestrator.step import StepError

_FIELDS = ("question", "trace", "answer")


@dataclass(frozen=True)
class Sample:
    """One line of a dataset."""

    question: str
    trace: str
    answer: str


@dataclass(frozen=True)
class TokenizedData:
    """All samples, end to end. Three arrays, so that a large dataset costs four bytes a token."""

    ids: NDArray[np.int32]
    """[tokens]"""
    starts: NDArray[np.int64]
    """[samples + 1]: sample i is ``ids[starts[i]:starts[i + 1]]``."""
    prompts: NDArray[np.int64]
    """[samples]: tokens of each sample that are read and not learned."""

    def __len__(self) -> int:
        return len(self.prompts)

    def lengths(self, samples: Sequence[int]) -> NDArray[np.int64]:
        """Tokens of each of `samples`."""
        chosen = np.asarray(samples, dtype=np.int64)
        return self.starts[chosen + 1] - self.starts[chosen]

    def learned(self, samples: Sequence[int]) -> int:
        """Tokens of all `samples` that are learned."""
        return int((self.lengths(samples) - self.prompts[np.asarray(samples, dtype=np.int64)]).sum())

    def sample(self, index: int) -> tuple[NDArray[np.int32], int]:
        """The ids of a sample, and how many of them are the prompt."""
        return self.ids[self.starts[index] : self.starts[index + 1]], int(self.prompts[index])


def read_samples(path: Path) -> list[Sample]:
    """The samples of a JSONL file. Raises StepError naming the first line that is not one."""
    try:
        with path.open(encoding="utf-8") as file:
            samples = [_sample(line, f"{path}:{number}") for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise StepError(f"data: {path} cannot be read ({error}): give a JSONL file in UTF-8") from error
    if not samples:
        raise StepError(f"data: {path} has no samples: give a JSONL file with {', '.join(_FIELDS)} in each line")
    return samples


def _sample(line: str, where: str) -> Sample:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise StepError(f"data: {where} is no JSON ({error.msg}): give one JSON object per line") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in _FIELDS):
        raise StepError(f"data: {where} lacks a string for one of {', '.join(_FIELDS)}: add it")
    return Sample(*(row[name] for name in _FIELDS))


def completion(sample: Sample, template: ThinkingTemplate) -> tuple[str, str, str, str]:
    """What the assistant says, in the pieces that are tokenised apart; the end of its turn not included.

    The answer is marked with "Answer:" where it is not already, as in the s1 paper.
    """
    answer = sample.answer if "Answer:" in sample.answer else f"Answer: {sample.answer}"
    thinking = f"{template.after_open}{sample.trace}{template.before_close}"
    return template.open, thinking, template.close, f"{template.after_close}{answer}"


def tokenize(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, template: ThinkingTemplate, block_size: int
) -> TokenizedData:
    """Renders and tokenises `samples`, each cut at `block_size` tokens.

    Raises StepError when the tokenizer has no chat template or end of turn, or when a prompt leaves nothing to learn.
    """
    if not tokenizer.chat_template:
        raise StepError("model: its tokenizer has no chat template: save one with it (tokenizer.chat_template)")
    if tokenizer.eos_token_id is None:
        raise StepError("model: its tokenizer has no end-of-turn token: save one with it (tokenizer.eos_token)")
    starts, prompts = [0], []
    pieces: list[NDArray[np.int32]] = []
    for index, (prompt, completed) in enumerate(_token_pairs(samples, tokenizer, template)):
        if len(prompt) >= block_size:
            raise StepError(
                f"block_size: {block_size} tokens leave nothing to learn of sample {index + 1}, whose prompt has "
                f"{len(prompt)}: raise block_size or drop the sample"
            )
        ids = np.asarray((prompt + completed)[:block_size], dtype=np.int32)
        pieces.append(ids)
        starts.append(starts[-1] + len(ids))
        prompts.append(len(prompt))
    return TokenizedData(np.concatenate(pieces), np.asarray(starts, np.int64), np.asarray(prompts, np.int64))


def _token_pairs(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, template: ThinkingTemplate
) -> Iterator[tuple[list[int], list[int]]]:
    """The prompt and the completion of each sample, as ids."""

    def encode(texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return encoded

    questions = [[{"role": "user", "content": sample.question}] for sample in samples]
    prompts = encode(tokenizer.apply_chat_template(questions, add_generation_prompt=True, tokenize=False))
    completions = [completion(sample, template) for sample in samples]
    opens, thoughts, closes, answers = (encode(list(texts)) for texts in zip(*completions, strict=True))
    for prompt, *said in zip(prompts, opens, thoughts, closes, answers, strict=True):
        yield prompt, [*(token for piece in said for token in piece), tokenizer.eos_token_id]
