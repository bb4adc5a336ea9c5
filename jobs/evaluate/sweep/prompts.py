"""Everything that is said to a model, as token ids: prompts, the delimiters that are forced, the strings injected.

Text is tokenised here, once, before anything is decoded. From then on a trace is token ids only: decoding it to text
and tokenising that again would not give the same ids, nor the same continuation.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jobs.evaluate.sweep.auto_style import THOUGHT, find_style, seen
from jobs.evaluate.sweep.chat_template import Instructions, check, known_switches, render
from jobs.evaluate.sweep.close_search import Pattern, pattern
from jobs.evaluate.sweep.effort import at_effort
from jobs.evaluate.sweep.opening import Opening
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Policy, Root, around_close
from jobs.evaluate.sweep.steps import HEADER, Steps
from jobs.evaluate.sweep.token_text import token_bytes
from jobs.evaluate.sweep.tree import Room
from jobs.template import UNMARKED, ThinkingTemplate
from orchestrator.job.errors import StepError

ASKED_PLAINLY = Root()
_, AFTER_CLOSE = around_close(FINAL_ANSWER)
"""What follows the close delimiter where thinking was cut, unless a policy closes it in another way."""


@dataclass(frozen=True)
class Forcing:
    """The token ids with which thinking is ended and made to go on. Small: it travels to every replica."""

    close: tuple[int, ...]
    """Empty for models that mark no thinking."""
    newline: tuple[int, ...]
    final: tuple[int, ...]
    """:data:`AFTER_CLOSE`, after `close`."""
    newline_ends: frozenset[int]
    """Ids whose text ends in a newline."""
    end_of_turn: tuple[int, ...]
    injected: Mapping[str, tuple[int, ...]]
    """Ids of every extension string of the sweep, each tokenised alone."""
    step: tuple[int, ...] = ()
    """The header that begins a step of thinking; empty for models that write none."""
    closings: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Ids before and after `close` of closings other than :data:`FINAL_ANSWER`, by their texts."""
    pieces: tuple[bytes, ...] = ()
    """The bytes of each id, where strings are looked for in what is decoded."""
    ends: Pattern | None = None
    """What ends thinking where the first token of `close` alone does not; None where it does."""

    @property
    def thinking_stops(self) -> tuple[int, ...]:
        """Ids that end thinking by themselves."""
        return self.first_stops if self.ends is None else self.end_of_turn

    @property
    def first_stops(self) -> tuple[int, ...]:
        """Ids with which thinking may not go on after it was made to."""
        return tuple(dict.fromkeys((*self.close[:1], *self.end_of_turn)))

    @property
    def overrun(self) -> int:
        """Tokens beyond a budget that show whether thinking ended before it."""
        return 0 if self.ends is None else len(self.ends.text) - 1

    @property
    def reserve(self) -> int:
        """Tokens that closing takes at most; `auto` budgets leave room for them."""
        return max(len(self.newline) + len(self.close) + len(self.final), self.overrun)

    def closing(self, text: str | None, last: int) -> tuple[int, ...]:
        """What is appended to thinking, after its token `last`, before the answer is decoded: where it was cut, with
        the closing `text`; None: where it ended by itself."""
        if not text:
            return self.close
        before, after = self.closings.get(text, ((), self.final))
        newline = () if last in self.newline_ends else self.newline
        return (*newline, *before, *self.close, *after)

    @property
    def longer(self) -> dict[str, int]:
        """By how many tokens each of the closings may be longer than what is reserved."""
        most = {text: self.closing(text, -1) for text in self.closings}
        return {text: max(0, len(ids) - self.reserve) for text, ids in most.items()}


@dataclass(frozen=True)
class Unit:
    """One trace of one item, with everything its decoding needs."""

    item: str
    """The item's id and a hash of its prompt: two tasks may use one id, and a question may be reworded."""
    sample: int
    prompt: tuple[int, ...]
    room: Room
    tree: int = 0
    """Which of the sweep's trees it is: each root makes another, with policies of its own."""
    banned: tuple[str, ...] = ()
    """Strings that may not be written in its thinking."""
    thinks: bool = True
    """Whether the prompt ends inside open thinking; if not, all that the model writes is its answer."""
    steps: Steps | None = None
    """Where a search of it branches; None where nothing is searched."""
    form: tuple[str, str, bool, str] = ("", "", True, "")
    """How its answers are read: see :func:`jobs.evaluate.grading.grader.form_of`."""


class Prompter:
    """Renders questions and reads answers, with a model's own tokenizer."""

    def __init__(
        self,
        tokenizer: Any,
        template: ThinkingTemplate | None,
        end_of_turn: Iterable[int],
        said: Instructions | None = None,
    ):
        """`tokenizer` as transformers loads it; `template` None is read from it; `said` is what every prompt says.

        Raises StepError when it lacks what the template needs, or its chat template what is said.
        """
        self._tokenizer = tokenizer
        self._end_of_turn = tuple(dict.fromkeys(end_of_turn))
        if not tokenizer.chat_template:
            raise StepError("model: its tokenizer has no chat template: save one with it (tokenizer.chat_template)")
        self._said = said or Instructions()
        check(tokenizer, self._said)
        self.template = template = template or self._found()
        self.switches = known_switches(tokenizer.get_chat_template())
        self._opening = Opening(self._write, self.switches, template)
        self._efforts: dict[str, Callable[[str], str]] = {}
        self._opened, self._closed = (self._ids(text.strip()) for text in (template.open, template.close))
        if template == UNMARKED:
            return
        if lacking := template.lacking(tokenizer):
            raise StepError(f"template: {lacking}: choose the template that the model was trained with")
        if template.step is not None and self._ids(template.step)[0] in (self._closed[0], *self._end_of_turn):
            raise StepError(
                f"template: the step delimiter {template.step!r} begins with a token that ends thinking: give another"
            )

    def forcing(self, policies: Iterable[Policy]) -> Forcing:
        """The delimiters, and all that `policies` append, each tokenised alone. Raises StepError for what cannot be."""
        policies = tuple(policies)
        strings = dict.fromkeys(string for policy in policies for string in policy.route.strings)
        closings = dict.fromkeys(policy.route.closing for policy in policies if policy.route.closing)
        for closing in closings:
            if (opening := self.template.open.strip()) and opening in closing:
                raise StepError(f"closings: {closing!r} contains {opening!r}, which opens thinking: leave it out")
        reads = any(
            policy.root.banned or policy.root.steps or (policy.route.mark and policy.route.mark.strings)
            for policy in policies
        )
        if self.template.step is None and any(
            policy.root.steps and policy.root.steps.at == HEADER for policy in policies
        ):
            raise StepError(
                "search.steps.at: header is what the template has as step, and it has none: give template.step, or the "
                "text that ends a step"
            )
        whole = not self.template.first_token_ends and self._closed != self._closed[:1]
        close = self.template.close.strip()
        for banned in (banned for policy in policies for banned in policy.root.banned):
            if whole and (banned in close or any(close.startswith(banned[at:]) for at in range(1, len(banned)))):
                raise StepError(
                    f"ban: {banned!r} is part of what closes thinking, {close!r}, which could then never be "
                    "written: leave it out"
                )
        return Forcing(
            close=self._ids(self.template.close),
            newline=self._ids("\n"),
            final=self._ids(AFTER_CLOSE),
            newline_ends=frozenset(
                token for token in range(len(self._tokenizer)) if self._tokenizer.decode([token]).endswith("\n")
            ),
            end_of_turn=self._end_of_turn,
            injected=self.injected(strings),
            step=() if self.template.step is None else self._ids(self.template.step),
            ends=pattern(self._tokenizer, self.template.close) if whole else None,
            closings={
                closing: (self._ids(before), self._ids(after))
                for closing in closings
                if closing != FINAL_ANSWER
                for before, after in [around_close(closing)]
            },
            pieces=self.pieces if reads else (),
        )

    def injected(self, strings: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """The ids of strings to append, each tokenised alone. Raises StepError for one that has none."""
        injected = {string: self._ids(string) for string in strings}
        for string, ids in injected.items():
            if string and not ids:
                raise StepError(f"extensions.strings: the model's tokenizer maps {string!r} to no tokens: remove it")
        return injected

    def prompt(self, question: str, root: Root = ASKED_PLAINLY) -> tuple[int, ...]:
        """The chat prompt of `question` as `root` has it put, ending inside open thinking, whoever opened it.

        Raises StepError where the chat template has it closed, or switched off.
        """
        text = put(question, root.sentence)
        if root.effort is None:
            return self._ids(self._opening.prompt(text))
        if root.effort not in self._efforts:
            self._efforts[root.effort] = at_effort(root.effort, self._write, self.switches, self.template)
        return self._ids(self._efforts[root.effort](text))

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of each id."""
        return token_bytes(self._tokenizer)

    @property
    def dated(self) -> bool:
        """Whether the chat template writes the day into prompts."""
        said, asked = self._said, self._said.messages("?")
        later = said.day.replace(year=said.day.year % 9000 + 1, month=said.day.month % 12 + 1, day=1)
        return self._write("?", {}) != render(self._tokenizer, asked, said.switches, later)

    def _write(self, question: str, switches: Mapping[str, Any]) -> str:
        said = self._said
        return render(self._tokenizer, said.messages(question), {**said.switches, **switches}, said.day)

    def answer(self, closing: str | None, tokens: Sequence[int]) -> str:
        """Text after the last close delimiter, special tokens left out; empty where thinking was opened again for good.

        What follows an open delimiter is thinking, and no answer, until it is closed.
        """
        text, by_itself = self._after_thinking(tokens)
        if self.template.after_answer:
            text = text.partition(self.template.after_answer.strip())[0].rstrip("\n")
        return text if closing is None or by_itself else around_close(closing)[1] + text

    def text(self, tokens: Sequence[int]) -> str:
        """What thinking says, special tokens included."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def reopens(self, tokens: Sequence[int]) -> bool:
        """Whether thinking was opened again among the tokens of an answer."""
        if self.template.plain:
            return self.template.open.strip() in self._tokenizer.decode(list(tokens))
        return _last(self._opened, tokens) >= 0

    def _after_thinking(self, tokens: Sequence[int]) -> tuple[str, bool]:
        """The text that counts as an answer, and whether it stands by itself, after a delimiter of the model's own."""
        if self.template.plain:
            whole: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
            close, text = whole.rpartition(self.template.close.strip())[1:]
            return ("", True) if self.template.open.strip() in text else (text, bool(close))
        opened, closed = _last(self._opened, tokens), _last(self._closed, tokens)
        if opened > closed:
            return "", True
        after = tokens if closed < 0 else tokens[closed + len(self._closed) :]
        return self._tokenizer.decode(list(after), skip_special_tokens=True), closed >= 0

    def _found(self) -> ThinkingTemplate:
        """The style that ``template: auto`` stands for. Raises StepError where nothing shows it."""
        added = {str(token) for token in self._tokenizer.added_tokens_decoder.values()}
        chat_template = self._tokenizer.get_chat_template()
        style = find_style(added, chat_template, self._thinking_turn())
        if style is None:
            raise StepError(
                f"template: auto finds no delimiters of thinking: {seen(added, chat_template)}: give the name of the "
                "style that the model was trained with, {open, close}, or none"
            )
        return style

    def _thinking_turn(self) -> str:
        """What the chat template writes of a turn that thinks, from where a prompt ends; empty where it writes none."""
        said, turn = self._said, {"role": "assistant", "content": "So.", "reasoning_content": THOUGHT}
        asked = said.messages("?")
        try:
            prompt = render(self._tokenizer, asked, said.switches, said.day)
            whole = render(self._tokenizer, [*asked, turn], said.switches, said.day, generation=False)
        except StepError:  # it takes no such turn
            return ""
        return whole.removeprefix(prompt) if whole.startswith(prompt) else ""

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))


def _last(ids: tuple[int, ...], tokens: Sequence[int]) -> int:
    """Where `ids` stand in `tokens` for the last time; -1 where they do not, and for no ids."""
    if not ids:
        return -1
    starts = range(len(tokens) - len(ids), -1, -1)
    return next((at for at in starts if tokens[at] == ids[0] and tuple(tokens[at : at + len(ids)]) == ids), -1)


def put(question: str, sentence: str | None) -> str:
    """What the user of a model says: the question, and what is asked of thinking after an empty line."""
    return question if sentence is None else f"{question}\n\n{sentence}"


def unit_key(item: str, prompt: Sequence[int], banned: Sequence[str] = (), steps: Steps | None = None) -> str:
    """:attr:`Unit.item` of the item with the id `item`, some strings being banned from its thinking, which is searched
    in `steps`."""
    without = repr(sorted(banned)).encode() if banned else b""
    within = repr(steps.identity).encode() if steps else b""
    return f"{item}:{hashlib.blake2b(array('i', prompt).tobytes() + without + within, digest_size=6).hexdigest()}"


def room(prompt: Sequence[int], context_length: int, forcing: Forcing, answer: int) -> Room:
    """What a prompt leaves: the context minus the prompt, the delimiters and the answer."""
    return Room(context_length - len(prompt) - forcing.reserve - answer, answer)
