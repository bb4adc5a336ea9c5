"""What makes a working directory too large for Ray's upload is said before anything is packed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.upload import files, told

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


def fill(folder: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


def test_what_is_largest_is_named_and_what_is_ignored_does_not_count(tmp_path: Path) -> None:
    fill(tmp_path, weights__a=3 << 20, weights__b=2 << 20, data=1 << 20, runs__x=9 << 20, logs__y=9 << 20, small=10)
    fill(tmp_path / ".git", objects=9 << 20)
    (tmp_path / ".gitignore").write_text("runs/\n")
    (tmp_path / ".rayignore").write_text("logs\n")
    small, line = told(tmp_path, 4 << 20)
    assert not small
    assert line.startswith(f"{tmp_path}: 6.0 MiB is too large for Ray's upload, which takes 4.0 MiB: ")
    assert "weights/ 5.0 MiB, data 1.0 MiB, " in line
    assert "runs" not in line
    assert ".rayignore" in line
    assert told(tmp_path, 7 << 20) == (True, f"{tmp_path}: 6.0 MiB of 7.0 MiB")


def test_this_checkout_is_small_enough() -> None:
    assert told(ROOT)[0]
    assert Path("README.md") in dict(files(ROOT))


def test_the_command_says_it_with_its_exit_status(tmp_path: Path) -> None:
    fill(tmp_path, a=10)
    for folder, status in ((tmp_path, 0), (tmp_path / "nowhere", 2)):
        command = [sys.executable, "-m", "cluster.upload", str(folder)]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert said.returncode == status
        assert len((said.stdout + said.stderr).splitlines()) == 1
