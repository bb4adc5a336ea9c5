"""Writes ``requirements-gpu.txt``: every package of the CUDA environment at its version, with the hashes of its files.

    python cluster/requirements.py            # on Linux x86-64, with the Python that is to have it

pip resolves ``pyproject.toml`` as it would to install it, and reports what it chose and what the index says its SHA-256
is; wheels are not downloaded where the index serves their metadata apart. Run it again when a pin changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "requirements-gpu.txt"
EXTRAS = ("gpu", "s3", "server", "test")
HEADER = """\
# Every package of the CUDA environment at its version, with its file's SHA-256, for Python {python} on Linux x86-64.
# Made by cluster/requirements.py; installed with --no-deps --require-hashes (see the Makefile).
"""


def wanted() -> list[str]:
    """What the project names, with the extras of a machine with GPUs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(each for extra in EXTRAS for each in project["optional-dependencies"][extra])]


def resolved(requirements: list[str]) -> list[dict[str, Any]]:
    """What pip would install of PyPI in an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        # What both environments have is of one version, which the tests ran with; and pip has little to try.
        command += ["--constraint", str(ROOT / "requirements-cpu.txt")]
        # No other indices of this machine: they may have builds of their own under the same versions.
        own = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
        subprocess.run([*command, "--report", str(report), *requirements], env={**os.environ, **own}, check=True)
        installed: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return installed


def line(package: dict[str, Any]) -> str:
    """``name==version --hash=sha256:…``"""
    about, hashes = package["metadata"], package["download_info"]["archive_info"]["hashes"]
    return f"{about['name'].lower().replace('_', '-')}=={about['version']} --hash=sha256:{hashes['sha256']}"


def main() -> None:
    lines = sorted(map(line, resolved(wanted())))
    python = ".".join(map(str, sys.version_info[:2]))
    FILE.write_text(HEADER.format(python=python) + "\n".join(lines) + "\n")
    print(f"{FILE.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
