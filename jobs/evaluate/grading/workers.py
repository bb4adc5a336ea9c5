"""Reading and comparing in processes of their own, which a text may end without ending anything else.

Texts go to a process a few at a time, and come back in order, so it is known which of them a process was at when it
ended or stopped answering: that one has no verdict, the others go to the process that takes its place, which was forked
from one that had loaded everything. Time in a queue counts for nothing, because the limit is on the CPU time that the
process itself spends on a text (see ``worker``). Mathematics has processes of its own: those that only read start in a
tenth of the time.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from jobs.evaluate.grading.reader import Read, Text
from jobs.evaluate.grading.worker import WorkerTask
from orchestrator.job.errors import StepError

Outcome = bool | str
"""Whether two answers are the same, or why nobody knows."""
_Came = dict[str, Any] | str
"""What came of an entry, ``{"of": ...}``, or why nothing did."""

SECONDS = 3.0
"""Of CPU time for an answer, two at least. The slowest honest pair of MATH500 takes 0.3."""
MEMORY = 2 << 30
"""Bytes of a process's address space; it needs 0.4 GB."""
_AT_ONCE = 16
"""Texts that a process is sent before it has answered."""
_MOST_PROCESSES = 8
_STARTS_WITHIN = 180.0
"""Seconds, on the most loaded machine."""
_PATIENCE = 20
"""Seconds on the clock for each second of CPU time, before a process that spends none is ended."""
_ROOT = Path(__file__).parents[3]


class _Gone(Exception):
    """The process that forks ended, or does not answer."""


class Workers:
    """Processes that read and compare answers, started when needed. A context manager: leaving it ends them."""

    def __init__(self, processes: int | None = None, seconds: float = SECONDS, memory: int = MEMORY):
        self._count = processes or min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
        self._seconds = seconds
        self._memory = memory
        self._idle: dict[WorkerTask, deque[_Process]] = {task: deque() for task in get_args(WorkerTask)}

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """Of each pair of gold answer and answer, whether they are the same; in the order of `pairs`.

        Raises StepError when no process can be started.
        """
        return [came if isinstance(came, str) else bool(came["of"]) for came in self._do("compare", pairs)]

    def read(self, texts: Sequence[Text]) -> list[Read | str]:
        """What each text says, or why nobody knows; in their order. Raises StepError as :meth:`compare` does."""
        return [came if isinstance(came, str) else Read(*came["of"]) for came in self._do("read", texts)]

    def judgements(self, replies: Sequence[str]) -> list[bool | None]:
        """What each reply of a judge decides, None for nothing; in their order. Raises StepError as :meth:`compare`."""
        return [None if isinstance(came, str) else came["of"] for came in self._do("judgement", replies)]

    def _do(self, task: WorkerTask, entries: Sequence[Any]) -> list[_Came]:
        results: dict[int, _Came] = {}
        waiting = deque(range(len(entries)))

        def serve() -> None:
            process: _Process | None = None
            try:
                while True:
                    batch = _taken(waiting)
                    if not batch:
                        return
                    process = process or self._process(task)
                    answered = 0
                    try:
                        for answered, came in enumerate(process.ask([entries[at] for at in batch]), 1):
                            results[batch[answered - 1]] = came
                    except _Gone as gone:
                        process.close()
                        process = None
                        results[batch[answered]] = str(gone)
                        answered += 1
                    waiting.extendleft(reversed(batch[answered:]))
            finally:
                if process is not None:
                    self._idle[task].append(process)

        threads = min(self._count, -(-len(entries) // _AT_ONCE))
        with ThreadPoolExecutor(max(1, threads), thread_name_prefix="grading") as pool:
            for served in [pool.submit(serve) for _ in range(threads)]:
                served.result()
        return [results[at] for at in range(len(entries))]

    def _process(self, task: WorkerTask) -> _Process:
        idle = self._idle[task]
        return idle.pop() if idle else _Process(task, self._seconds, self._memory)


def _taken(waiting: deque[int]) -> list[int]:
    """The next few, for one process."""
    batch: list[int] = []
    while len(batch) < _AT_ONCE:
        try:
            batch.append(waiting.popleft())
        except IndexError:
            break
    return batch


class _Process:
    """One worker and its fork, and what they have said that was not read yet."""

    def __init__(self, task: WorkerTask, seconds: float, memory: int):
        self._seconds = seconds
        path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobs.evaluate.grading.worker", str(seconds), str(memory), task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            process_group=0,  # which its fork is in
        )
        self._said = b""
        self._asked = 0
        try:
            started = self._line(_STARTS_WITHIN) == b"ready"
        except _Gone:
            started = False
        if not started:
            self.close()
            raise StepError("grading: the process that reads answers does not start: see the end of the step's log")

    def ask(self, entries: Sequence[Any]) -> Iterator[_Came]:
        """What comes of `entries`, in order, as they come; ends after one that ended the fork.

        Raises _Gone where there are no more to come.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what was answered before that can still be read
            self._asked += 1
            self._process.stdin.write(json.dumps([self._asked, entries]).encode() + b"\n")
            self._process.stdin.flush()
        left = len(entries)
        while left:
            said = json.loads(self._line(self._seconds * _PATIENCE))
            if isinstance(said, dict):
                yield said["ended"]
                return
            number, came = said
            if number == self._asked:  # others were asked of a fork that had ended before, and have their outcome
                yield came
                left -= 1

    def close(self) -> None:
        """Ends the process and its fork, whatever they are at."""
        with suppress(ProcessLookupError):  # both have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what it was sent and did not read
                    pipe.close()

    def _line(self, within: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._process.stdout], [], [], within)
            if not ready:
                raise _Gone(f"did not answer within {within:g} s")
            if not (more := os.read(self._process.stdout.fileno(), 1 << 16)):
                raise _Gone("ended its process, by memory or otherwise")
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line
