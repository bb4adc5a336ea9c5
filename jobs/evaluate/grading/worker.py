"""The process in which mathematics is compared: ``python -m jobs.evaluate.grading.worker SECONDS BYTES``.

Reads a JSON pair of gold answer and answer per line, and writes a JSON verdict per line: true, false, or why there is
none. Each answer has so many seconds of this process's own CPU time, so a busy machine takes longer and decides the
same. Python code that takes longer is interrupted by a timer. What no timer interrupts, such as a power of integers
that would fill the memory, is ended by the kernel, with the process, when its CPU limit is reached: also when whoever
started it is gone.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
import time
from math import ceil
from types import FrameType

_GRACE = 2
"""CPU seconds between the timer and the kernel's limit, which is in whole seconds."""

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError and NotImplementedError among them
    TypeError,
    ValueError,
)
"""What symbolic mathematics raises on input that nobody thought of. Anything else ends the process: that is noticed."""


class _OutOfTime(BaseException):
    """Not an Exception: the libraries catch those, and go on."""


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


def main() -> None:
    """Serves until its input ends."""
    seconds, size = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGPROF, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then closes this process's input
    logging.disable(logging.CRITICAL)
    from jobs.evaluate.grading.mathematics import same

    same("1/2+x", "x+2/4")  # loads everything, outside of any answer's time
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        _limit_cpu(seconds)
        verdict: bool | str
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                verdict = same(gold, answer)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except _OutOfTime:
            verdict = f"took longer than {seconds:g} s"
        except _FAILURES as error:
            verdict = f"{type(error).__name__} in symbolic mathematics"
        print(json.dumps(verdict), flush=True)


def _limit_cpu(seconds: float) -> None:
    """Has the kernel end this process when the next answer takes longer than any timer would let it."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = ceil(time.process_time() + seconds) + _GRACE
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


if __name__ == "__main__":
    main()
