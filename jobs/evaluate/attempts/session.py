"""A model that is up, and the attempts at it so far.

Attempts are asked for here and decoded by :meth:`Session.decode`, one or several at once: the walker does it, as in a
sweep, so budgets, appended strings and closings mean here what they mean there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from jobs.evaluate.attempts.attempt import Appended, Attempt, HeardTrace, How, Settings, Steered, Stretch, pieces, read
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Engine, EngineError
from jobs.evaluate.sweep.policy import Root
from jobs.evaluate.sweep.prompts import Prompter, Unit, room
from jobs.evaluate.sweep.tree import Key, grow, leaf
from orchestrator.job.errors import StepError

Hear = Callable[[Attempt, Stretch], None]

MOST_AT_ONCE = 8
"""Attempts that an engine is started for, decoded at the same time."""


class Unsteerable(Exception):
    """What was asked for cannot be done, in one line that says what can."""


class Session:
    """Attempts at one model on one engine."""

    def __init__(self, prompter: Prompter, engine: Engine, context_length: int, answer_tokens: int, name: str):
        """`answer_tokens` is the most that an answer may take; `name` is what the model is called."""
        self.name = name
        self.attempts: list[Attempt] = []
        self._prompter = prompter
        self._forcing = prompter.forcing([Steered()])
        self._engine = engine
        self._context_length = context_length
        self._answer_tokens = answer_tokens
        self._asked = 0

    @property
    def thinks(self) -> bool:
        """Whether the model marks its thinking, so that there is something to steer."""
        return bool(self._forcing.close)

    def ask(self, question: str, settings: Settings, strings: Sequence[str] = ()) -> Attempt:
        """A question, with `strings` to be appended at the first ends of its thinking. Raises Unsteerable."""
        if not question.strip():
            raise Unsteerable("ask something: the question is empty")
        root = Root(effort=settings.effort)
        self._know(strings)
        try:
            prompt = self._prompter.prompt(question, root)
        except StepError as error:
            raise Unsteerable(str(error)) from None
        left = room(prompt, self._context_length, self._forcing, self._answer_tokens)
        if left.thinking < 1:
            raise Unsteerable(
                f"the question has {len(prompt):,} tokens with its prompt, which leaves no room to think in a context "
                f"of {self._context_length:,}: ask a shorter one"
            )
        unit = Unit("tried", self._asked, prompt, left, thinks=root.thinks)
        self._asked += 1
        return self._add("asked", question, settings, unit, Steered(settings.budget, tuple(strings)))

    def append(self, parent: Attempt, text: str, settings: Settings, at: int | None = None) -> Attempt:
        """Thinking as `parent` had it up to the position `at`, all of it by default, then `text`, and on from there.

        Raises Unsteerable.
        """
        self._steerable(parent)
        self._know([text])
        known, at, whole = self._left(parent, at)
        last = known[-1][0]
        natural = whole and parent.trace.extent(last).ended
        added = len(self._forcing.injected[text])
        most = min(settings.budget or parent.unit.room.thinking, parent.unit.room.thinking)
        if at + added >= most:
            raise Unsteerable(
                f"{text!r} takes thinking to {at + added:,} tokens, and there is room for {most:,}: "
                + ("raise the budget" if settings.budget else "leave it at an earlier token")
            )
        policy = Steered(settings.budget, (*last.path, text))
        attempt = self._add("appended", parent.question, settings, parent.unit, policy, parent, known, at)
        attempt.trace.end(last)
        attempt.trace.keep(last, len(known[-1][1]))
        attempt.appended += (Appended(text, at, natural),)
        return attempt

    def cut(self, parent: Attempt, settings: Settings, at: int | None = None) -> Attempt:
        """Thinking as `parent` had it up to the position `at`, cut there and made to answer. Raises Unsteerable."""
        self._steerable(parent)
        known, at, _ = self._left(parent, at)
        if at < 1:
            raise Unsteerable("there is no thinking to cut yet")
        policy = Steered(at, known[-1][0].path)
        return self._add("cut", parent.question, settings, parent.unit, policy, parent, known, at)

    def again(self, parent: Attempt, settings: Settings, at: int | None = None) -> Attempt:
        """Thinking as `parent` had it up to the position `at`, and on from there with other random numbers.

        Raises Unsteerable.
        """
        self._steerable(parent)
        known, at, _ = self._left(parent, at)
        unit, self._asked = replace(parent.unit, sample=self._asked), self._asked + 1
        policy = Steered(settings.budget, known[-1][0].path)
        return self._add("again", parent.question, settings, unit, policy, parent, known, at)

    async def decode(self, attempt: Attempt, hear: Hear | None = None) -> None:
        """Decodes `attempt` to its end, telling `hear` what comes as it does. Cancelled, it goes on where it was.

        Raises EngineError.
        """
        tree = grow([attempt.policy], {text: len(self._forcing.injected[text]) for text in attempt.policy.strings})
        settings = attempt.settings
        walker = Walker(self._engine, tree, self._forcing, settings.sampling, settings.seed, record=_keep_nothing)

        def heard(part: Stretch) -> None:
            attempt.hear(part)
            if hear is not None:
                hear(attempt, part)

        attempt.trace.hear = heard
        began = time.monotonic()
        try:
            await walker.walk(attempt.unit, attempt.trace)
            attempt.leaf = leaf(tree, attempt.policy, attempt.unit.room, attempt.trace.extent)
            if attempt.leaf.answer is not None:
                tokens = attempt.trace.tokens(attempt.leaf.answer)[: attempt.leaf.answer_tokens]
                attempt.answer = self._prompter.answer(attempt.leaf.answer.closing, tokens)
        finally:
            attempt.trace.settle()
            attempt.seconds += time.monotonic() - began
            if attempt.trace.first is not None and attempt.first_token is None:
                attempt.first_token = attempt.trace.first - began

    async def decode_all(self, attempts: Sequence[Attempt], hear: Hear | None = None) -> None:
        """Decodes several at once. Raises EngineError."""
        try:
            async with asyncio.TaskGroup() as group:
                for attempt in attempts:
                    group.create_task(self.decode(attempt, hear))
        except* EngineError as failures:
            raise failures.exceptions[0] from None

    async def close(self) -> None:
        """Ends the engine."""
        await self._engine.close()

    def _know(self, strings: Sequence[str]) -> None:
        """Has the tokens of what will be appended. Raises Unsteerable for what has none."""
        new = [string for string in strings if string not in self._forcing.injected]
        try:
            injected = self._prompter.injected(new)
        except StepError as error:
            raise Unsteerable(str(error)) from None
        self._forcing = replace(self._forcing, injected={**self._forcing.injected, **injected})

    def _steerable(self, parent: Attempt) -> None:
        if not self.thinks or not parent.unit.thinks:
            raise Unsteerable("thinking is not told from the answer here, so there is none to steer: ask again")

    def _left(self, parent: Attempt, at: int | None) -> tuple[list[tuple[Key, Sequence[int]]], int, bool]:
        """What a position leaves of the thinking of `parent`, where that is, and whether its last branch is whole."""
        if at is not None and not 0 <= at <= parent.thinking:
            raise Unsteerable(f"attempt {parent.number} has no token {at:,}: it has {parent.thinking:,} of thinking")
        known = list(pieces(parent, at if parent.leaf is None or at is not None else parent.leaf.thinking_tokens))
        key, tokens = known[-1]
        return known, parent.trace.thinking_before(key.path) + len(tokens), len(tokens) == parent.trace.extent(key)[0]

    def _add(
        self,
        how: How,
        question: str,
        settings: Settings,
        unit: Unit,
        policy: Steered,
        parent: Attempt | None = None,
        known: Sequence[tuple[Key, Sequence[int]]] = (),
        at: int = 0,
    ) -> Attempt:
        trace = HeardTrace(unit, self._forcing, self._prompter)
        for key, tokens in known:
            trace.extend(key, tokens)
            if key.path != known[-1][0].path:
                trace.end(key)
            trace.keep(key, 0)
        if parent is not None:
            settings = replace(settings, effort=parent.settings.effort)
        attempt = Attempt(len(self.attempts) + 1, question, how, policy, settings, unit, trace, shared=at)
        if parent is not None:
            attempt.parent = parent.number
            attempt.parts = list(read(parent, known, self._prompter))
            attempt.appended = parent.appended[: len(known[-1][0].path)]
        self.attempts.append(attempt)
        return attempt


def _keep_nothing(segment: object) -> None:
    """What is tried is kept by whoever tries it, as text."""
