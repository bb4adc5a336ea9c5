"""Where attempts are kept: a file of JSON lines, each written when its attempt ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jobs.evaluate.attempts.attempt import Attempt


@dataclass(frozen=True)
class Log:
    """A file that is added to; None: nothing is kept."""

    file: Path | None
    model: str

    def add(self, attempt: Attempt) -> None:
        """Adds a line. Raises OSError."""
        if self.file is None:
            return
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"model": self.model, **attempt.record()}) + "\n")
