"""What ``report`` and ``look`` say of a distilling step."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from orchestrator.__main__ import main
from orchestrator.store.step_folders import PAGE
from tests.distil.finished import HOSTILE, finish, steps

pytestmark = pytest.mark.seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    shutil.copy(empty_database, folder / "mlflow.db")
    for name in ("sums", "sums · data"):
        MlflowClient(f"sqlite:///{folder}/mlflow.db").create_experiment(name, (folder / "artifacts").as_uri())
    return finish(folder)


def report(folder: Path, *arguments: str) -> tuple[Result, str]:
    result = CliRunner().invoke(main, ["report", str(folder / "sums.yaml"), *arguments], catch_exceptions=False)
    page = re.search(r"report: (\S+)", result.output)
    return result, Path(page[1]).read_text() if page else ""


def viewed(page: str) -> list[dict[str, Any]]:
    """The rows of the page's viewer."""
    packed = re.search(r'id="rows">"([^"]*)"', page)
    assert packed
    rows: list[dict[str, Any]] = json.loads(base64.b64decode(packed[1]))
    return rows


def test_the_page_tells_what_was_kept_and_why_and_shows_it(folder: Path) -> None:
    result, page = report(folder)
    assert result.exit_code == 0
    assert "r1 was asked for 3 samples; keep: correct keeps 1." in page
    assert "answers: 2 wrong" in page
    assert "thinking natural, answer stop" in page
    rows = [row for row in viewed(page) if row["step"] == "traces"]
    assert sorted((row["about"][0], row["about"][1]) for row in rows) == [
        ("answers: wrong", "q1, sample 0"),
        ("answers: wrong", "q2, sample 0"),
        ("kept", "q0, sample 0"),
    ]
    assert {tuple(name for name, _ in row["texts"]) for row in rows} == {("", "trace", "answer", "reference")}
    assert HOSTILE not in page
    assert "default-src &#39;none&#39;" in page
    assert "unsafe-inline" not in page
    text = (next((folder / "runs" / "reports").glob("*/report.html")).parent / "report.md").read_text()
    assert "### Verdicts" in text
    assert "| wrong | 2 | 0 |" in text
    tracked = Path(str(steps(folder)["traces"].folder.path)) / "tracked" / "traces" / "artifacts"
    assert (tracked / PAGE).read_text() == page
    assert steps(folder)["traces"].verdict == "done", "the step's own output is untouched"


def test_a_page_has_what_there_is_room_for_and_what_is_asked_for_in_any_case(folder: Path) -> None:
    _, page = report(folder, "--megabytes", "0.0001")
    assert viewed(page) == []
    assert "0 of 4 samples are here" in page
    _, page = report(folder, "--megabytes", "0.0001", "--item", "q2")
    assert [row["about"][1] for row in viewed(page)] == ["q2, sample 0"]
    result, _ = report(folder, "--item", "q7")
    assert result.exit_code == 2
    assert "--item: no question 'q7' in this experiment's traces" in result.output


def test_a_look_says_that_a_chat_server_writes_its_own_prompts(folder: Path) -> None:
    result = CliRunner().invoke(main, ["look", str(folder / "sums.yaml"), "--step", "traces"], catch_exceptions=False)
    assert "the server writes its own prompts" in result.output
