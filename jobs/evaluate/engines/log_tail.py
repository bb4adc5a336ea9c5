"""The last lines that an engine's processes wrote, for the error that says why they died.

Libraries start processes that die with a report on their standard error, and then raise no more than that they died.
What is started inside :func:`log_tail` inherits a pipe instead; all of it goes on to this process's own standard error,
as before, for as long as those processes live.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LINES = 500
_REMARK = re.compile(r"^\[[IW]\d{4} |\b(?:INFO|WARNING|\w*Warning)\b|^(?:\([^()]*\) )?\s+\S")
"""What says nothing of why a process died, though it may be the last that was said before a kill."""
_RAISED = re.compile(r"(?:[\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit): \S.*")
"""The last line of a traceback, whatever a log puts before it."""
STANDARD = (1, 2)
"""Output and error."""


@contextmanager
def log_tail() -> Iterator[deque[str]]:
    """Yields the last lines, those that are written after the block's end included."""
    tail: deque[str] = deque(maxlen=LINES)
    reading, writing = os.pipe()
    kept = [os.dup(descriptor) for descriptor in STANDARD]
    reader = threading.Thread(target=_pass_on, args=(reading, os.dup(2), tail), name="log tail", daemon=True)
    reader.start()
    for descriptor in STANDARD:
        os.dup2(writing, descriptor)
    os.close(writing)
    try:
        yield tail
    finally:
        for descriptor, before in zip(STANDARD, kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)


def reason(tail: Iterable[str]) -> str:
    """The first exception that the lines tell of, since others follow from it, and the last line that is no mere
    remark; "" without any.
    """
    lines = list(tail)
    raised = next((match[0] for line in lines if (match := _RAISED.search(line))), "")
    last = next((line for line in reversed(lines) if not _REMARK.search(line)), "")
    if raised in last:
        return last
    return f"{raised} ... {last}" if last else raised


def _pass_on(reading: int, writing: int, tail: deque[str]) -> None:
    """Copies until all who could write have ended."""
    with open(reading, errors="replace") as lines, open(writing, "w") as out:
        for line in lines:
            out.write(line)
            out.flush()
            if line.strip():
                tail.append(line.rstrip())
