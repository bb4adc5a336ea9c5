"""Ctrl-C and ``ray job stop``, as a run takes them: noted when they come, acted on where it can stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was told to stop, by Ctrl-C or ``ray job stop``. Carries the signal."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in the list that it yields, for the loop to act on.

    Nothing is raised from the handler: it may run inside Ray's native code, or inside a clean-up that must not stop.
    """
    received: list[int] = []

    def note(signal_number: int, frame: FrameType | None) -> None:
        received.append(signal_number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
