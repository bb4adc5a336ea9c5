"""What tests of whole runs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.finetune.buckets import s3_server
from tests.orchestrator.workplace import Workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path)
    yield workplace
    for process in workplace.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """A server of S3's protocol, as the environment that leads to it."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def reached(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process has that environment, and a cache of its own."""
    for name, value in {**server, "ORCHESTRATOR_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
