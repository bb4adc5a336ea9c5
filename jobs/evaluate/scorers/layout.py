"""How a trace is put to a scorer's model, as token ids of its own: whole, in one prompt, as far as its window holds it.

Where a trace is longer than the window, its earliest steps are left out, and the question stays: what is asked is how
good the latest step is. A single step that is too long is cut at its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobs.evaluate.scorers.config import SearchField
from jobs.evaluate.scorers.protocol import ScorerSpec, Writer
from jobs.evaluate.sweep.prompts import Prompter
from jobs.template import marked_answer
from orchestrator.job.errors import StepError

VERSION = 2
"""Scores of what was laid out otherwise are other scores."""


class Layout(Protocol):
    """Writes for one scorer."""

    def around(self, question: str) -> int:
        """Tokens of a prompt that are no step's."""

    def prompt(self, question: str, steps: Sequence[str]) -> tuple[int, ...]:
        """All that is put to the model; what it would write next, or what it says of the last token, is the score."""


class VerdictLayout(Layout, Protocol):
    """Writes for a model whose next token is the verdict."""

    @property
    def verdicts(self) -> tuple[int, int]:
        """The tokens that stand for good and for bad."""


def layout(spec: ScorerSpec) -> Layout:
    """That of `spec`. Raises StepError where the tokenizer lacks what stands for good, bad, or the end of a step."""
    if spec.kind == "generative":
        return verdict_layout(spec)
    assert spec.reader is not None, "a scorer with a model"
    return ChatLayout(spec.reader, spec.window, spec.tag)


def verdict_layout(spec: ScorerSpec) -> VerdictLayout:
    """That of a generative scorer. Raises StepError as :func:`layout` does."""
    assert spec.reader is not None, "a scorer with a model"
    if spec.tag is None:
        return ThinkingLayout(spec.reader, spec.window, spec.good, spec.bad)
    return TaggedLayout(spec.reader, spec.window, spec.good, spec.bad, spec.tag)


def check(search: SearchField, reader: Writer, window: int | None) -> None:
    """Raises StepError where the tokenizer of the scorer's model lacks what it would be asked with, or for, and where
    no question leaves room for a step in its `window`, as far as that is known."""
    scorer = search.scorer
    good, bad, most = scorer.good or "", scorer.bad or "", window or 1 << 20
    written = layout(ScorerSpec(scorer.kind, (), {}, reader, None, reader, None, most, good, bad, scorer.tag))
    if (taken := written.around("?")) + search.steps.tokens > most:
        raise StepError(
            f"search.scorer.window: {most} tokens do not hold a question, which takes {taken} at least, and a step of "
            f"{search.steps.tokens}: raise it, or lower search.steps.tokens"
        )


def single(reader: Writer, text: str, field: str) -> int:
    """The one token that is `text`. Raises StepError where the vocabulary has none."""
    return _known(reader, reader.tokenizer.encode(text, add_special_tokens=False), text, field)


def _known(reader: Writer, ids: Sequence[int], text: str, field: str) -> int:
    """The one of `ids`, by which `text` is told. Raises StepError where they are none, several, or unknown."""
    if len(ids) != 1 or ids[0] == reader.tokenizer.unk_token_id:
        raise StepError(
            f"search.scorer.{field}: {text!r} is {len(ids)} tokens of the scorer's tokenizer, and has to be one that "
            "it knows: give what the model was trained to write"
        )
    return int(ids[0])


class ThinkingLayout:
    """The trace as thinking of the scorer's own, closed, and its answer as far as verdicts have it in common.

    Token for token what a ``finetune`` step learns from rows whose answers are the verdicts, and which it marks as
    answers ("Answer: +"). What comes next is the verdict.
    """

    def __init__(self, reader: Writer, window: int, good: str, bad: str):
        self._reader = reader
        self._window = window
        self._prompter = Prompter(reader.tokenizer, reader.template, reader.end_of_turn, reader.said)
        template = reader.template
        self._before = template.before_close
        answers = [self._ids(template.after_close + marked_answer(verdict)) for verdict in (good, bad)]
        shared = next((at for at, ids in enumerate(zip(*answers, strict=False)) if ids[0] != ids[1]), 0)
        self._tail = (*self._ids(template.close), *answers[0][:shared])
        self.verdicts = (
            _known(reader, answers[0][shared:], good, "good"),
            _known(reader, answers[1][shared:], bad, "bad"),
        )

    def around(self, question: str) -> int:
        return len(self._prompter.prompt(question)) + len(self._ids(self._before)) + len(self._tail)

    def prompt(self, question: str, steps: Sequence[str]) -> tuple[int, ...]:
        head = self._prompter.prompt(question)
        said = "".join(steps)
        end = "" if said.endswith(self._before) else self._before
        body = fitting([*steps[:-1], steps[-1] + end], self._window - len(head) - len(self._tail), self._ids)
        return (*head, *body, *self._tail)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._reader.tokenizer.encode(text, add_special_tokens=False))


class TaggedLayout:
    """The question, and each step on a line of its own with a tag after it, as Math-Shepherd has it."""

    def __init__(self, reader: Writer, window: int, good: str, bad: str, tag: str):
        self._reader = reader
        self._window = window
        self._tag = tag
        single(reader, tag, "tag")
        self.verdicts = single(reader, good, "good"), single(reader, bad, "bad")

    def around(self, question: str) -> int:
        return len(self._ids(f"{question} ")) + len(self._ids(f" {self._tag}"))

    def prompt(self, question: str, steps: Sequence[str]) -> tuple[int, ...]:
        head = self._ids(f"{question} ")
        lines = [f"{step.strip()} {self._tag}\n" for step in steps]
        lines[-1] = lines[-1].rstrip("\n")
        return (*head, *fitting(lines, self._window - len(head), self._ids))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._reader.tokenizer.encode(text, add_special_tokens=False))


class ChatLayout:
    """The question as the user's turn of the scorer's chat template, and the steps as the reply, each with a tag after
    it where there is one: as Qwen2.5-Math-PRM has it, and reward models of whole replies."""

    def __init__(self, reader: Writer, window: int, tag: str | None):
        self._reader = reader
        self._window = window
        self._tag = tag or ""
        if not reader.tokenizer.chat_template:
            raise StepError("search.scorer.model: its tokenizer has no chat template, by which it would be asked")
        if tag is not None and single(reader, tag, "tag") not in self._ids("?", "." + tag):
            raise StepError(
                f"search.scorer.tag: the scorer's chat template leaves {tag!r} out of a reply, and it is where steps "
                "are scored: take a model whose template writes what a reply says"
            )

    def around(self, question: str) -> int:
        return len(self._ids(question, self._tag))

    def prompt(self, question: str, steps: Sequence[str]) -> tuple[int, ...]:
        for first in range(len(steps)):
            ids = self._ids(question, "".join(step + self._tag for step in steps[first:]))
            if len(ids) <= self._window:
                return ids
        step = steps[-1]
        while len(ids) > self._window and step:
            step = step[max(1, len(step) // 16) :]
            ids = self._ids(question, step + self._tag)
        return ids

    def _ids(self, question: str, reply: str) -> tuple[int, ...]:
        tokenizer, said = self._reader.tokenizer, self._reader.said
        turns = [*said.messages(question), {"role": "assistant", "content": reply}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        return tuple(tokenizer.encode(text, add_special_tokens=False))


def fitting(steps: Sequence[str], room: int, ids: _Ids) -> tuple[int, ...]:
    """As many of the last steps as there is room for, as tokens of one text; of a single step, its last tokens."""
    for first in range(len(steps)):
        body = ids("".join(steps[first:]))
        if len(body) <= room:
            return body
    return body[len(body) - room :]


class _Ids(Protocol):
    def __call__(self, text: str) -> tuple[int, ...]: ...
