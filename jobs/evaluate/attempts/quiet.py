"""Keeps what libraries say while a model loads, and after, away from the terminal that a person reads.

They write to file descriptors, from C and from processes of their own, so those are what is redirected.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType

OUT, ERR = 1, 2


class Quiet:
    """A context in which both outputs go to a file, which is kept, and named, if it ends in an error."""

    def __enter__(self) -> Quiet:
        self._flush()
        number, name = tempfile.mkstemp(prefix="try-", suffix=".txt")
        self._file = Path(name)
        self._saved = {descriptor: os.dup(descriptor) for descriptor in (OUT, ERR)}
        for descriptor in self._saved:
            os.dup2(number, descriptor)
        os.close(number)
        return self

    def speak(self) -> None:
        """Has the standard output back; what is an error's still goes to the file."""
        self._flush()
        os.dup2(self._saved[OUT], OUT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        for descriptor, saved in self._saved.items():
            os.dup2(saved, descriptor)
            os.close(saved)
        if error is None or self._file.stat().st_size == 0:
            self._file.unlink()
        else:
            print(f"what was logged meanwhile: {self._file}", file=sys.stderr)

    @staticmethod
    def _flush() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
