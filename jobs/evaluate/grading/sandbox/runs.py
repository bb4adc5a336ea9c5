"""Running a program on inputs, each run alone in a jail (``jail``), and what came of each.

What a jail says is only what a program printed or returned. It is never told what would be right, so there is nothing
in it that a program could copy, and no way to end that would count for more than a wrong answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

_JAIL = Path(__file__).with_name("jail.py")
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")
"""What Python's own modules, and those that packages bring, are linked to."""
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/box",
    "TMPDIR": "/box",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # a program that goes through a set does so in one order
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""All of it: nothing of this process's own, which may hold tokens and keys."""


class SandboxError(Exception):
    """The machine does not let programs be locked up, or a jail did not do its work. One line."""


@dataclass(frozen=True)
class RunLimits:
    """Of one run. Whatever goes beyond one is ended, with all that it started."""

    seconds: int = 6
    """Of CPU time of each process. LiveCodeBench's own."""
    patience: int = 5
    """Seconds on the clock for each second of CPU time: sleeping is not free either."""
    memory: int = 1 << 30
    """Bytes of address space of each process, and of what all of them hold."""
    processes: int = 16
    """And threads, at once."""
    file_bytes: int = 16 << 20
    """Of a file, and of all files together."""
    output: int = 8 << 20
    """Bytes that are printed or returned."""


@dataclass(frozen=True)
class ProgramRun:
    """What came of one input."""

    ended: Literal["finished", "failed", "time", "memory", "processes", "output"]
    """``failed``: with an exit status other than 0, or by a signal."""
    printed: str
    returned: str | None
    """What the function returned, as JSON; None where there is none, or it did not return."""


def run(
    program: str, inputs: Sequence[str], function: str | None = None, limits: RunLimits | None = None
) -> Generator[ProgramRun, None, None]:
    """Runs `program` once for each of `inputs`, which it reads from its standard input.

    With `function`, that function of the program, or of its class ``Solution``, is called instead, with an argument for
    each line of an input, in JSON. Closing the iterator ends what runs. Raises SandboxError where there is no jail.
    """
    limits = limits or RunLimits()
    task = {
        "limits": asdict(limits),
        "program": program,
        "inputs": list(inputs),
        "function": function,
        "folders": _folders(),
        "uid": os.getuid(),
        "gid": os.getgid(),
    }
    # The task is read from a file: a pipe would have to be written while the jail is read.
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(task).encode())
        given.seek(0)
        with subprocess.Popen(
            [sys.executable, "-P", "-s", str(_JAIL)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        ) as jail:
            try:
                yield from _runs(jail, len(inputs))
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(jail.pid, signal.SIGKILL)


def _runs(jail: subprocess.Popen[bytes], count: int) -> Iterator[ProgramRun]:
    assert jail.stdout is not None
    for _ in range(count):
        line = jail.stdout.readline()
        if not line:
            raise SandboxError("the process that runs programs ended")
        said = json.loads(line)
        if "refused" in said:
            raise SandboxError(said["refused"])
        yield ProgramRun(said["ended"], said["printed"], said["returned"])


def _folders() -> list[str]:
    """What is there in a jail, read-only: Python, the packages beside it, and what they are linked to."""
    wanted = [*_SYSTEM, sys.base_prefix, sys.prefix]
    kept: list[str] = []
    for folder in sorted({os.path.abspath(each) for each in wanted}):
        if os.path.lexists(folder) and not any(folder.startswith(f"{other}/") for other in kept):
            kept.append(folder)
    return kept


@cache
def unavailable() -> str | None:
    """Why programs cannot be run here, in words; None where they can."""
    try:
        [ran] = run("print(input())", ["here"])
    except SandboxError as error:
        return str(error)
    return None if ran.printed == "here\n" else f"a program that prints a line {ran.ended}"
