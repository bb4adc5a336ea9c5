"""The prompt: a question is asked, its thinking streams, and keys steer it where it is.

Everything is one thread: while something is decoded the event loop runs and keys are read from the terminal; while a
line is typed nothing else goes on.
"""

from __future__ import annotations

import asyncio
import readline
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from rich.console import Console
from rich.text import Text

from jobs.evaluate.attempts.attempt import Attempt, Settings
from jobs.evaluate.attempts.keys import CLOSED, END, LEFT, RIGHT, Keys
from jobs.evaluate.attempts.log import Log
from jobs.evaluate.attempts.orders import HELP, NAMES, SETTINGS, Order, changed, described, order
from jobs.evaluate.attempts.screen import Screen
from jobs.evaluate.attempts.session import Session, Unsteerable
from jobs.evaluate.attempts.show import attempt_text, comparison, counts, heading, point, tail

WHILE_IT_THINKS = "w Wait · h Hmm · t text · c cut · f fork · space stop"
AFTERWARDS = "w Wait · h Hmm · t text · c cut · f fork · a again · ←→ where · Enter next · ? help"
TEXTS = {"w": "Wait", "h": "Hmm"}
SHARED_SHOWN = 300
"""Characters of what an attempt has of another one's thinking."""
TICK = 0.1
"""Seconds between two drawings where nothing comes."""


class Prompt:
    """A session in a terminal."""

    def __init__(self, session: Session, settings: Settings, runner: asyncio.Runner, out: Console, log: Log):
        self._session = session
        self._settings = settings
        self._runner = runner
        self._out = out
        self._log = log
        self._on: Attempt | None = None
        """What orders are about."""

    def run(self) -> None:
        """Until the input ends, or somebody quits. Raises EngineError."""
        self._say(f"{self._session.name} is up. {described(self._settings)}. Ask a question; /help says what else.")
        readline.set_completer(_complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")
        while (line := self._line("\n? ")) is not None:
            try:
                if line.startswith("/"):
                    if (asked := order(line)).name == "quit":
                        return
                    self._obey(asked)
                elif line.strip():
                    self._go([self._session.ask(line, self._settings)])
            except Unsteerable as error:
                self._say(str(error))

    def _obey(self, asked: Order) -> None:
        if asked.name in SETTINGS:
            self._settings = changed(self._settings, asked.name, asked.text)
            self._say(described(self._settings))
            return
        match asked.name:
            case "help":
                self._say("\n".join(f"{line:<18} {what}" for line, what in HELP.items()))
            case "settings":
                self._say(described(self._settings))
            case "compare":
                self._compare()
            case "on":
                self._on = self._numbered(asked.text)
                self._steer()
            case "show":
                self._out.print(attempt_text(self._numbered(asked.text) if asked.text else self._current()))
            case _:
                self._go(self._made(asked.name, asked.text, asked.at))

    def _made(self, name: str, text: str, at: int | None) -> list[Attempt]:
        """The attempts that an order makes of the current one."""
        parent, session = self._current(), self._session
        match name:
            case "cut":
                return [session.cut(parent, self._settings, at)]
            case "again":
                if self._settings.sampling.temperature == 0:
                    raise Unsteerable("at temperature 0 it would say the same again: /temperature 0.6")
                return [session.again(parent, self._settings, at)]
            case "fork":
                fork = session.append(parent, text, self._settings, at)
                return [fork] if parent.leaf is not None else [fork, parent]
            case _:
                return [session.append(parent, text, self._settings, at)]

    def _go(self, attempts: list[Attempt]) -> None:
        """Decodes attempts, the first of them on the screen, until they end or are stopped, and steers from there."""
        while attempts:
            self._on = attempts[0]
            self._out.print(heading(self._on))
            key = self._watched(attempts)
            for attempt in attempts:
                if attempt.leaf is not None:
                    self._log.add(attempt)
            self._say(counts(self._on) + ("" if self._on.leaf else ", stopped"))
            if len(attempts) > 1 and key is None:
                self._compare()
            attempts = self._pressed(key, None, [each for each in attempts if each.leaf is None]) if key else []
        self._steer()

    def _watched(self, attempts: Sequence[Attempt]) -> str | None:
        """The key that stopped them; None where all came to their end."""
        try:
            return self._runner.run(self._watch(attempts))
        except KeyboardInterrupt:
            return " "

    async def _watch(self, attempts: Sequence[Attempt]) -> str | None:
        focus = attempts[0]
        others = [each for each in attempts if each is not focus]
        with Keys() as keys, Screen(self._out, focus, WHILE_IT_THINKS) as screen:
            for part in tail(focus.parts, SHARED_SHOWN):
                screen.add(part)
            decoding = asyncio.ensure_future(self._session.decode_all(attempts, screen.hear))
            pressed = asyncio.ensure_future(keys.next())
            try:
                while not decoding.done():
                    await asyncio.wait([decoding, pressed], timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
                    if pressed.done():
                        if pressed.result() in (*TEXTS, "t", "c", "f", " ", CLOSED):
                            return pressed.result()
                        pressed = asyncio.ensure_future(keys.next())
                    screen.draw("".join(f" · [{each.number}] {each.thinking:,}" for each in others))
                decoding.result()
                return None
            finally:
                for task in (decoding, pressed):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    def _steer(self) -> None:
        """Takes keys about the current attempt until something else is to be typed."""
        if self._on is None:
            return
        at: int | None = None
        while True:
            current = self._current()
            bar = Text(AFTERWARDS, style="dim") if at is None else point(current, at, self._out.width)
            self._out.print(bar, end="\r", no_wrap=True, overflow="ellipsis")
            key = self._key()
            self._out.print(" " * (self._out.width - 1), end="\r")
            if key in (LEFT, RIGHT, END):
                at = _moved(at, key, current.thinking)
            elif key == "?":
                self._obey(Order("help"))
            elif key in (*TEXTS, "t", "c", "f", "a"):
                if attempts := self._pressed(key, at, []):
                    self._go(attempts)
                    return
            elif key:
                begun = key if len(key) == 1 and key.isprintable() and key != " " else ""
                readline.set_startup_hook(partial(readline.insert_text, begun))
                return

    def _pressed(self, key: str, at: int | None, unfinished: list[Attempt]) -> list[Attempt]:
        """What a key makes of the current attempt; nothing where it cannot be had, or only stops."""
        try:
            match key:
                case "w" | "h":
                    return self._made("append", TEXTS[key], at)
                case "t":
                    text = self._line("append: ")
                    return [] if text is None else self._made("append", text, at)
                case "c":
                    return self._made("cut", "", at)
                case "a":
                    return self._made("again", "", at)
                case "f":
                    text = self._line("fork, and append there: ")
                    return unfinished if text is None else self._made("fork", text, at)
                case _:
                    return []
        except Unsteerable as error:
            self._say(str(error))
            return []

    def _key(self) -> str:
        async def key() -> str:
            with Keys() as keys:
                return await keys.next()

        try:
            return self._runner.run(key())
        except KeyboardInterrupt:
            return CLOSED

    def _line(self, prompt: str) -> str | None:
        """A line that is typed; None at the end of the input, and where it is interrupted."""
        try:
            return input(prompt)
        except (EOFError, KeyboardInterrupt):
            self._out.print()
            return None
        finally:
            readline.set_startup_hook(None)

    def _current(self) -> Attempt:
        if self._on is None:
            raise Unsteerable("nothing was asked yet: ask a question first")
        return self._on

    def _numbered(self, text: str) -> Attempt:
        for attempt in self._session.attempts:
            if str(attempt.number) == text.strip():
                return attempt
        raise Unsteerable(f"there is no attempt {text}: there are {len(self._session.attempts)}")

    def _compare(self) -> None:
        question = self._current().question
        self._out.print(comparison([each for each in self._session.attempts if each.question == question]))

    def _say(self, text: str) -> None:
        self._out.print(Text(text, style="dim"))


def _moved(at: int | None, key: str, thinking: int) -> int | None:
    """Where a point in thinking is after a key; None: at its end."""
    if key == END:
        return None
    now = (thinking if at is None else at) + (1 if key == RIGHT else -1)
    return None if now >= thinking else max(0, now)


def _complete(text: str, state: int) -> str | None:
    matching = [name for name in (*NAMES, "/help") if name.startswith(text)] if text.startswith("/") else []
    return matching[state] if state < len(matching) else None
