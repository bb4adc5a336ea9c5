"""A program in a terminal of its own: what it writes, and what is typed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class Typed:
    """The other end of the terminal."""

    def __init__(self, process: subprocess.Popen[bytes], file: int):
        self.process = process
        self.written = b""
        """All that the program wrote."""
        self._file = file
        self._read = 0

    def type(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def expect(self, said: str, seconds: float = 60) -> str:
        """What was written since the last time, up to `said`; sequences of the terminal's are left out."""
        deadline = time.monotonic() + seconds
        while True:
            text = shown(self.written)[self._read :]
            if said in text:
                self._read += text.index(said) + len(said)
                return text[: text.index(said) + len(said)]
            if time.monotonic() > deadline or not self._more(deadline):
                raise AssertionError(f"{said!r} was not written; but {text!r}")

    def end(self) -> int:
        """The exit status, once nothing more comes."""
        while self._more(time.monotonic() + 60):
            pass
        return self.process.wait(60)

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._file], [], [], max(0, deadline - time.monotonic()))
        try:
            came = os.read(self._file, 65536) if ready else b""
        except OSError:  # the program is gone
            return False
        self.written += came
        return bool(came)


def shown(written: bytes) -> str:
    """Without sequences that move the cursor or set colours, and without carriage returns."""
    text = written.decode(errors="replace")
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text).replace("\r", "")


@contextmanager
def terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], columns: int = 100, rows: int = 30
) -> Iterator[Typed]:
    """Starts a program in a terminal; it has ended when the block does."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Typed(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)
