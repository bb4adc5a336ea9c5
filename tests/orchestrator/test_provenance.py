"""What a step keeps of the code that it ran with."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator import provenance


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """A process remembers what it ran with."""
    provenance.provenance.cache_clear()
    yield
    provenance.provenance.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    said = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return said.stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_says_when_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.provenance()["commit"] == head
    (tmp_path / "code.py").write_text("2\n")
    provenance.provenance.cache_clear()
    assert provenance.provenance()["commit"] == f"{head} + changes"


def test_without_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert provenance.provenance()["commit"] is None


def test_the_versions_are_those_of_this_process() -> None:
    found = provenance.provenance()
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == metadata.version("torch")
