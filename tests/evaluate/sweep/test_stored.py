"""What an earlier commit decoded is read, and nothing of it is decoded or asked for again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.evaluate.sweep.stored import STORED, answered, decoded


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return shutil.copytree(STORED / "traces", tmp_path / "traces")


def test_traces_of_every_kind_of_policy_are_read_and_have_the_same_account(tmp_path: Path, traces: Path) -> None:
    before = sorted(file.name for file in traces.rglob("*"))
    lacking, account = decoded(tmp_path, traces)
    assert lacking == 0
    assert account == (STORED / "decoded.csv").read_text()
    assert sorted(file.name for file in traces.rglob("*")) == before


def test_answers_of_a_chat_server_are_read_and_have_the_same_account(tmp_path: Path, traces: Path) -> None:
    before = sorted(file.name for file in traces.rglob("*"))
    assert answered(tmp_path, traces) == (STORED / "answered.csv").read_text()
    assert sorted(file.name for file in traces.rglob("*")) == before
