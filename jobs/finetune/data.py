"""Questions, traces and answers as token ids, and which of them are learned.

A sample is rendered as evaluation will see it: ``<chat prompt> open trace close answer <end of turn>``. Each delimiter
is tokenised alone, because that is how evaluation appends it. Everything after the prompt is learned, the opening
delimiter included, but for what the model's chat template writes of it; or the answer alone, by models that judge
traces and write none. A sample longer than the block is cut, and by how much is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jobs.finetune.samples import Sample
from jobs.template import ThinkingTemplate, marked_answer
from jobs.transformers_classes import PreTrainedTokenizerBase
from orchestrator.job.errors import StepError

_AT_ONCE = 512
"""Samples that are text at the same time: a tokenizer works on many in parallel, and text is larger than ids."""

_SAID = "@said@"
"""What an assistant says in order to see what its chat template writes after it."""


@dataclass(frozen=True)
class TokenizedData:
    """All samples, end to end. Arrays, so that a large dataset costs four bytes a token.

    What training handles is a *row*: a sequence that goes through the model as one. It is a sample, or, where samples
    are packed, several.
    """

    ids: NDArray[np.int32]
    """[tokens]"""
    starts: NDArray[np.int64]
    """[samples + 1]: sample i is ``ids[starts[i]:starts[i + 1]]``."""
    prompts: NDArray[np.int64]
    """[samples]: tokens of each sample that are read and not learned."""
    cut: NDArray[np.int64]
    """[samples]: tokens of each sample that the block had no room for."""
    numbers: NDArray[np.int64]
    """[samples]: the place of each in the dataset that was read, counted from 0."""
    rows: NDArray[np.int64]
    """[rows + 1]: row i is the samples from ``rows[i]`` to before ``rows[i + 1]``."""

    def __len__(self) -> int:
        return len(self.rows) - 1

    @property
    def samples(self) -> int:
        return len(self.prompts)

    @property
    def packed(self) -> bool:
        """Whether rows may have several samples."""
        return len(self) < self.samples

    def members(self, rows: Sequence[int]) -> tuple[int, ...]:
        """:attr:`numbers` of the samples in `rows`."""
        return tuple(int(number) for row in rows for number in self.numbers[self.rows[row] : self.rows[row + 1]])

    def lengths(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Tokens of each of `rows`."""
        chosen = np.asarray(rows, dtype=np.int64)
        return self.starts[self.rows[chosen + 1]] - self.starts[self.rows[chosen]]

    def learned(self, rows: Sequence[int]) -> int:
        """Tokens of all `rows` that are learned."""
        chosen = np.asarray(rows, dtype=np.int64)
        prompts = self._prompts_before[self.rows[chosen + 1]] - self._prompts_before[self.rows[chosen]]
        return int((self.lengths(rows) - prompts).sum())

    def row(self, index: int) -> list[tuple[NDArray[np.int32], int]]:
        """The samples of a row: ids, and how many of them are the prompt."""
        return [self.sample(sample) for sample in range(self.rows[index], self.rows[index + 1])]

    def choose(self, rows: Sequence[int]) -> TokenizedData:
        """The data that has only `rows`, in the order given."""
        chosen = [np.arange(self.rows[row], self.rows[row + 1]) for row in rows]
        return self.arrange(np.concatenate(chosen), [len(samples) for samples in chosen])

    def arrange(self, samples: NDArray[np.int64], rows: Sequence[int]) -> TokenizedData:
        """The data that has only `samples`, in the order given; `rows` says how many of them each row takes."""
        lengths = self.starts[samples + 1] - self.starts[samples]
        return TokenizedData(
            ids=np.concatenate([self.sample(sample)[0] for sample in samples]),
            starts=np.concatenate([[0], np.cumsum(lengths)]),
            prompts=self.prompts[samples],
            cut=self.cut[samples],
            numbers=self.numbers[samples],
            rows=np.concatenate([[0], np.cumsum(rows)]),
        )

    def sample(self, index: int) -> tuple[NDArray[np.int32], int]:
        """The ids of a sample, and how many of them are the prompt."""
        return self.ids[self.starts[index] : self.starts[index + 1]], int(self.prompts[index])

    @cached_property
    def _prompts_before(self) -> NDArray[np.int64]:
        """[samples + 1]: prompt tokens of all samples before each."""
        return np.concatenate([[0], np.cumsum(self.prompts)])

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the tokens that are trained on, and which of them are learned."""
        digest = hashlib.sha256()
        for array in (self.ids, self.starts, self.prompts, self.rows):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Writes the arrays into `folder`."""
        for part in fields(self):
            np.save(folder / f"{part.name}.npy", getattr(self, part.name))

    @classmethod
    def load(cls, folder: Path) -> TokenizedData:
        """What :meth:`save` wrote, read as it is needed and shared by the processes of a machine."""
        return cls(*(np.load(folder / f"{part.name}.npy", mmap_mode="r") for part in fields(cls)))


Learn = Literal["all", "answer"]
"""What of a sample is learned: all that comes after its prompt, or what comes after its trace."""


def tokenize(
    samples: Iterable[Sample],
    tokenizer: PreTrainedTokenizerBase,
    template: ThinkingTemplate,
    block_size: int,
    learn: Learn = "all",
) -> TokenizedData:
    """`samples` as ids, each a row of its own, cut at `block_size` tokens.

    Raises StepError when the tokenizer cannot render a chat, or what is read leaves nothing to learn.
    """
    writer = _Writer(tokenizer, template)
    starts, prompts, cut = [0], [], []
    pieces: list[NDArray[np.int32]] = []
    remaining = iter(samples)
    while chunk := list(islice(remaining, _AT_ONCE)):
        for sample, (prompt, thought, answer) in zip(chunk, writer.write(chunk), strict=True):
            read = len(prompt) + (len(thought) if learn == "answer" else 0)
            if read >= block_size:
                raise StepError(
                    f"block_size: {block_size} tokens leave nothing to learn of {sample.where}, whose prompt "
                    f"{'and trace have' if learn == 'answer' else 'has'} {read}: raise block_size or drop the row"
                )
            whole = [*prompt, *thought, *answer]
            ids = np.asarray(whole[:block_size], dtype=np.int32)
            pieces.append(ids)
            starts.append(starts[-1] + len(ids))
            prompts.append(read)
            cut.append(len(whole) - len(ids))
    return TokenizedData(
        ids=np.concatenate(pieces),
        starts=np.asarray(starts, np.int64),
        prompts=np.asarray(prompts, np.int64),
        cut=np.asarray(cut, np.int64),
        numbers=np.arange(len(prompts), dtype=np.int64),
        rows=np.arange(len(prompts) + 1, dtype=np.int64),
    )


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that a chat template writes after what the assistant said: the token that ends its turn comes first.

    It is the chat template that knows: the end-of-sequence token of a base model's tokenizer may be another. Raises
    StepError when there is neither.
    """
    if not tokenizer.chat_template:
        raise StepError("model: its tokenizer has no chat template: save one with it (tokenizer.chat_template)")
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _SAID}]
    after = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(_SAID)[2]
    ids: list[int] = tokenizer.encode(after, add_special_tokens=False)
    if ids and ids[0] in tokenizer.added_tokens_decoder:
        return ids
    if tokenizer.eos_token_id is None:
        raise StepError("model: its tokenizer has no end-of-turn token: save one with it (tokenizer.eos_token)")
    return [tokenizer.eos_token_id]


class _Writer:
    """Writes samples as a model's chat template and a style of thinking have them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: ThinkingTemplate):
        self._tokenizer = tokenizer
        self._template = template
        end = end_of_turn(tokenizer)
        self._end = end if template.whole_turn else end[:1]

    def write(self, samples: Sequence[Sample]) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """The prompt of each sample, its thinking with the delimiters around it, and its answer, as ids."""
        template = self._template
        questions = [[{"role": "user", "content": sample.question}] for sample in samples]
        prompts: list[str] = self._tokenizer.apply_chat_template(questions, add_generation_prompt=True, tokenize=False)
        pieces = (
            prompts,
            [template.opened(prompt)[len(prompt) :] for prompt in prompts],
            [
                f"{template.after_opening(prompt)}{sample.trace.strip()}{template.before_close}"
                for sample, prompt in zip(samples, prompts, strict=True)
            ],
            [template.close] * len(samples),
            [f"{template.after_close}{marked_answer(sample.answer)}{template.after_answer}" for sample in samples],
        )
        for prompt, *thought, answer in zip(*map(self._encode, pieces), strict=True):
            yield prompt, [token for piece in thought for token in piece], [*answer, *self._end]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        # Not verbose: it would warn of texts beyond the model's positions, which are cut or refused later.
        encoded = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids
