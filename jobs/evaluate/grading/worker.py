"""The processes in which mathematics is compared: ``python -m jobs.evaluate.grading.worker SECONDS BYTES``.

One loads everything and computes nothing, so that nothing ends it. It forks another that serves. A line of its input is
a number and pairs of gold answer and answer, in JSON. For each pair it writes a line, the number and true, false or why
there is no verdict. When an answer ends it, the first says in which way (``{"ended": ...}``: what else was on the line
is not compared) and forks the next, which takes no time.

An answer has so many seconds of the process's own CPU time: a busy machine takes longer and decides the same. A timer
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
from contextlib import suppress
from math import floor
from types import FrameType

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,  # sympy: a case that it has no method for
    RecursionError,
    TypeError,
    ValueError,
)
"""What symbolic mathematics raises on input that nobody thought of. Anything else ends the process: that is noticed."""

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
    seconds, size = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then closes this process's input
    logging.disable(logging.CRITICAL)
    from jobs.evaluate.grading.mathematics import same

    for pair in _WARM_UP:
        same(*pair)
    print("ready", flush=True)
    while True:
        child = os.fork()
        if not child:
            _serve(seconds)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not status:
            return
        late = status == -signal.SIGXCPU
        _say({"ended": _late(seconds) if late else "ended its process, by memory or otherwise"})


def _serve(seconds: float) -> None:
    from jobs.evaluate.grading.mathematics import same

    signal.signal(signal.SIGPROF, _interrupt)
    for line in sys.stdin:
        number, pairs = json.loads(line)
        for gold, answer in pairs:
            _limit_cpu(seconds)
            verdict: bool | str
            try:
                signal.setitimer(signal.ITIMER_PROF, seconds - 1)
                try:
                    verdict = same(gold, answer)
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
            except _OutOfTime:
                verdict = _late(seconds)
            except _FAILURES as error:
                verdict = f"{type(error).__name__} in symbolic mathematics"
            _say([number, verdict])


def _limit_cpu(seconds: float) -> None:
    """Has the kernel end this process when the next answer takes all of its time, for which no timer would let it."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = floor(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _late(seconds: float) -> str:
    return f"took all of its {seconds:g} s"


def _say(value: object) -> None:
    os.write(sys.stdout.fileno(), f"{json.dumps(value)}\n".encode())


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # whoever started it is gone
        main()
