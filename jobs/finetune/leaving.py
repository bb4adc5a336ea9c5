"""Training that stops because a machine is about to go.

Clouds announce it, and Ray's head then knows. Each worker asks about its own machine, in a thread, so that a head that
does not answer holds up no step; what any of them was told, all learn with the sum of their losses, which they exchange
in every step anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 2.0
"""Seconds between questions: clouds give half a minute."""


class Leaving(Exception):
    """Training stopped because a machine is about to go; a checkpoint of the last step is saved."""


def staying() -> bool:
    """Nobody announces that a machine goes."""
    return False


@contextmanager
def watching(leaves: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Yields what says, at once, whether `leaves` has ever said yes, which is asked every `EVERY` seconds meanwhile."""
    announced, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=_watch, args=(leaves, announced, ended), name="leaving", daemon=True)
    thread.start()
    try:
        yield announced.is_set
    finally:
        ended.set()


def _watch(leaves: Callable[[], bool], announced: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(EVERY):
        if leaves():
            announced.set()
            return
