"""Keys of a terminal, one at a time and without Enter, while something else is drawn on it."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import termios
import tty
from types import TracebackType

LEFT, RIGHT, END, CLOSED = "left", "right", "end", "closed"

_SEQUENCES = {b"[D": LEFT, b"OD": LEFT, b"[C": RIGHT, b"OC": RIGHT, b"[F": END, b"OF": END}
_LONGEST = 8
"""Bytes of a sequence after its escape, and more."""


class Keys:
    """A context in which the keys of the standard input can be waited for.

    What is typed ahead is left to whoever reads next: a byte is read when a key is asked for.
    """

    def __enter__(self) -> Keys:
        self._file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file, termios.TCSADRAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    async def next(self) -> str:
        """The next key: a letter, an arrow, or that the terminal was closed; empty for what is none of these."""
        loop, typed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._file, typed.set)
        try:
            await typed.wait()
        finally:
            loop.remove_reader(self._file)
        try:
            return self._read()
        except OSError:  # its other end is gone
            return CLOSED

    def _read(self) -> str:
        first = os.read(self._file, 1)
        if first == b"\x1b":
            return self._sequence()
        while not (letter := first.decode(errors="ignore")) and first and len(first) < 4:
            first += os.read(self._file, 1)
        return letter or CLOSED

    def _sequence(self) -> str:
        rest = b""
        while len(rest) < _LONGEST and select.select([self._file], [], [], 0)[0]:
            rest += os.read(self._file, 1)
            if len(rest) > 1 and (rest[-1:].isalpha() or rest[-1:] == b"~"):
                break
        return _SEQUENCES.get(rest, "")
