"""Whether a job of Slurm gets anywhere between two starts, so that one that does not is not put back for ever.

A time limit that is shorter than starting (Ray, engines, a model's weights), or preemptions that come faster, would
requeue a job until somebody looks. So each start notes how far the steps are in the store, and after :data:`MOST`
starts in a row that got no further the job ends. Further is further than ever: a training run that reaches step 10
again, because it had no checkpoint, is where it was.

The note lies beside the job's log, by its number, because nothing else outlives a requeue.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST = 3
"""Starts in a row that may get no further."""
PATIENCE = 30.0
"""Seconds for the store to say how far it is."""

Far = Mapping[str, float]
"""How much is done, by step and what it counts."""


def how_far(words: Sequence[str]) -> Far | None:
    """As ``status`` of the experiment says; None where it cannot be told."""
    command = [sys.executable, "-m", "orchestrator", "status", "--json", *words]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        far: dict[str, float] = {}
        for step in json.loads(said)["steps"]:
            folder = f"{step['step']}-{step['fingerprint']}"
            far[f"{folder}: done"] = float(step["state"] == "done")
            if (progress := step["progress"]) is not None:
                far[f"{folder}: {progress['unit'].partition(',')[0]}"] = float(progress["done"])
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):
        return None
    return far


def is_further(now: Far, before: Far) -> bool:
    """Whether anything got further than it ever was."""
    return any(done > before.get(what, 0.0) for what, done in now.items())


@dataclass
class Restarts:
    """The starts of one job."""

    file: Path
    words: Sequence[str]
    """The experiment, as ``run`` is given it."""
    far: Far
    """The furthest that was seen."""
    idle: int
    """Starts before this one, in a row, that got no further."""

    @classmethod
    def begin(cls, job: str, words: Sequence[str]) -> Restarts:
        """This start, of the job with that number, is noted."""
        file = Path(f".scaling-{job}.json")
        far, idle = {}, 0
        if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
            with contextlib.suppress(OSError, ValueError, KeyError):  # then the count begins again
                note = json.loads(file.read_text())
                far, idle = note["far"], int(note["idle"])
                if (now := how_far(words)) is not None:
                    idle = 0 if is_further(now, far) else idle + 1
                    far = {what: max(far.get(what, 0.0), now.get(what, 0.0)) for what in {**far, **now}}
        elif (now := how_far(words)) is not None:
            far = dict(now)
        restarts = cls(file, words, far, idle)
        with contextlib.suppress(OSError):
            file.write_text(json.dumps({"far": far, "idle": idle}))
        return restarts

    def hopeless(self) -> bool:
        """Whether too many starts, this one among them, got no further."""
        now = how_far(self.words) if self.idle + 1 >= MOST else None
        return now is not None and not is_further(now, self.far)

    def forget(self) -> None:
        """The job ends for good."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
