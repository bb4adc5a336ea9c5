"""The processes in which models' texts are read: ``python -m jobs.evaluate.grading.worker SECONDS BYTES TASK``.

One loads everything and reads nothing, so that nothing ends it. It forks another that serves. A line of its input is
a number and what to do :data:`TASK` on, in JSON: texts to read, pairs of gold answer and answer to compare, replies of
a judge. For each it writes a line, the number and what came of it, or why nothing did. When a text ends it, the first
says in which way (``{"ended": ...}``: what else was on the line is not looked at) and forks the next, which takes no
time.

A text has so many seconds of the process's own CPU time: a busy machine takes longer and decides the same. A timer
interrupts it a second before they are over. What no timer interrupts, such as a power of integers that would fill the
memory, is ended by the kernel when they are, in whole seconds: also when whoever started it is gone.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from math import floor
from types import FrameType
from typing import Any, Literal

WorkerTask = Literal["read", "compare", "judgement"]

_WARM_UP = (
    (r"\frac{\sqrt{2}}{3}", "x+2/4"),
    (r"[1,2) \cup (3,\infty)", "(1, 2)"),
    (r"\{1, 2\}", "2, 1"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "x^2 = 1"),
)
"""Kinds of expressions: the parser learns its grammar from them, which every process then knows from its birth."""


class _OutOfTime(BaseException):
    """Not an Exception: the libraries catch those, and go on."""


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


def main() -> None:
    """Serves until its input ends."""
    seconds, size, task = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then closes this process's input
    logging.disable(logging.CRITICAL)
    does = _doing(task)
    print("ready", flush=True)
    while True:
        child = os.fork()
        if not child:
            _serve(seconds, does)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not status:
            return
        late = status == -signal.SIGXCPU
        _say({"ended": _late(seconds) if late else "ended its process, by memory or otherwise"})


def _doing(task: str) -> Callable[[Any], object]:
    """What is done on one entry of a line. Only mathematics takes seconds to load."""
    if task == "compare":
        from jobs.evaluate.grading import mathematics

        for pair in _WARM_UP:
            mathematics.same(*pair)
        return lambda pair: mathematics.same(*pair)
    if task == "judgement":
        from jobs.evaluate.grading.judge import read_verdict

        return read_verdict
    from jobs.evaluate.grading.reader import Text, read

    return lambda text: read(Text(*text))


def _serve(seconds: float, does: Callable[[Any], object]) -> None:
    from jobs.evaluate.grading.mathematics import FAILURES

    signal.signal(signal.SIGPROF, _interrupt)
    for line in sys.stdin:
        number, entries = json.loads(line)
        for entry in entries:
            _limit_cpu(seconds)
            came: object
            try:
                signal.setitimer(signal.ITIMER_PROF, seconds - 1)
                try:
                    came = {"of": does(entry)}
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
            except _OutOfTime:
                came = _late(seconds)
            except (*FAILURES, MemoryError) as error:
                came = f"{type(error).__name__} in symbolic mathematics"
            _say([number, came])


def _limit_cpu(seconds: float) -> None:
    """Has the kernel end this process when the next answer takes all of its time, for which no timer would let it."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = floor(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _late(seconds: float) -> str:
    return f"took all of its {seconds:g} s"


def _say(value: object) -> None:
    left = memoryview(f"{json.dumps(value)}\n".encode())
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # whoever started it is gone
        main()
