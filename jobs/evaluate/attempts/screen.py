"""One attempt on the terminal as it is decoded: its text above, and below it a line that says how far it is.

Whole lines are written once and stay in the terminal's scrollback; only the last one and the state below it are drawn
again, at most so often a second, however fast tokens come.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from jobs.evaluate.attempts.attempt import Attempt, Stretch
from jobs.evaluate.attempts.show import part_text

EVERY = 0.05
"""Seconds between two drawings, but for the first token, which is drawn at once."""


class Screen:
    """A context in which `focus` is drawn."""

    def __init__(self, out: Console, focus: Attempt, keys: str):
        """`keys` says what can be pressed."""
        self.focus = focus
        self._out = out
        self._keys = keys
        self._line = Text()
        self._last = ""
        self._drawn = 0.0
        self._began = time.monotonic()
        self._before = focus.seconds
        self._live = Live(console=out, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Screen:
        self._live.__enter__()
        self.draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(Text(), refresh=True)
        self._live.__exit__(kind, error, trace)
        if self._line:
            self._out.print(self._line)

    def hear(self, attempt: Attempt, part: Stretch) -> None:
        """Takes what was added to an attempt, and draws what is of this one's."""
        if attempt is not self.focus:
            return
        self.add(part)
        now = time.monotonic()
        if now - self._drawn >= EVERY or not self._drawn:
            self.draw()

    def add(self, part: Stretch) -> None:
        """Takes a stretch of text."""
        if part.kind == "cut" or (part.kind == "answer" and self._last == "stop"):
            self._line.append("\n")
        self._last = part.kind
        self._line.append_text(part_text(part))
        *whole, rest = self._line.split("\n", allow_blank=True)
        rows = rest.wrap(self._out, max(2, self._out.width - 1))
        if len(rows) > 1:
            whole += rows[:-1]
            rest = rows[-1]
        for line in whole:
            self._live.console.print(line, soft_wrap=False)
        self._line = rest

    def draw(self, others: str = "") -> None:
        """Draws the last line, and the state."""
        self._drawn = time.monotonic()
        seconds = self._before + self._drawn - self._began
        attempt = self.focus
        decoded = attempt.trace.decoded
        rate = f" · {decoded / seconds:,.0f} tokens/s" if seconds > 0.5 else ""
        budget = f" of {attempt.policy.budget:,}" if attempt.policy.budget else ""
        state = Text(no_wrap=True, overflow="ellipsis")
        state.append(f" {attempt.thinking:,}{budget} thinking · {seconds:.1f} s{rate}{others} ", style="reverse")
        state.append(f"  {self._keys}", style="dim")
        self._live.update(Group(self._line, state), refresh=True)
