"""Whose cluster a command runs on: one that is named, this user's own at the usual port, else one for the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster import local
from tests.serving import Quiet, serving

pytestmark = pytest.mark.processes

RAY = b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "0"}'
NO_TOKEN = b"Unauthorized: Missing authentication token"


@contextmanager
def server(status: int, body: bytes) -> Iterator[int]:
    """Something that answers everything so."""

    class Answer(Quiet):
        def do_GET(self) -> None:
            self.say(status, body)

    with serving(Answer) as port:
        yield port


@pytest.mark.parametrize(
    ("status", "body", "is_ray"),
    [
        (200, RAY, True),
        (401, NO_TOKEN, True),
        (200, b"<html>It works!</html>", False),
        (200, b"[1, 2]", False),
        (200, b'{"version": "1"}', False),
        (200, b"\xff" * 100_000, False),
        (403, b"Forbidden", False),
        (500, RAY, False),
    ],
)
def test_a_server_is_taken_for_ray_by_what_it_says_and_not_because_it_answers(
    status: int, body: bytes, is_ray: bool
) -> None:
    with server(status, body) as port:
        assert local.answers(f"http://127.0.0.1:{port}") is is_ray


def test_nobody_at_the_address_is_no_ray() -> None:
    assert not local.answers(f"http://127.0.0.1:{local.free_port()}")


def test_another_users_cluster_is_not_run_on_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200, RAY) as port:
        assert local.is_ours(port)
        monkeypatch.setattr("os.getuid", lambda: 12345)
        assert not local.is_ours(port)


def test_a_named_cluster_that_is_not_there_is_said_and_nothing_starts(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with server(200, b"<html></html>") as port:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
        assert local.main([sys.executable, "-c", "print('ran')"]) == 1
    said = capfd.readouterr()
    assert f"no Ray cluster answers at http://127.0.0.1:{port}: start one, or unset it" in said.err
    assert "ran" not in said.out


@pytest.mark.parametrize("named", [True, False], ids=["a named cluster", "a head of its own"])
def test_what_cannot_be_run_as_written_is_said_and_nothing_submitted(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nsteps:\n  words: {job: letters, train: none}\n")
    before = {process.pid for process in psutil.process_iter()}
    with server(200, RAY) as port:
        if named:
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
        command = [sys.executable, "-c", "print('ran')"]
        assert local.main(["--plan", str(tmp_path / "bad.yaml"), *command]) == 2
    said = capfd.readouterr()
    assert "steps.words.train" in said.err
    assert "ran" not in said.out
    mine = psutil.Process().children(recursive=True)
    assert [each for each in mine if each.pid not in before and each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_plan_may_take_longer_than_a_head_and_a_head_not_longer_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_LIMIT", 0.0)
    (tmp_path / "head.log").write_text("starting\n")
    slow = [sys.executable, "-c", "import time; time.sleep(1); raise SystemExit(4)"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with server(200, RAY) as port, subprocess.Popen(slow) as plan:
            local._wait_until_up(process, f"http://127.0.0.1:{port}", port, tmp_path / "head.log", plan)
        assert plan.returncode == local.TO_BE_RUN
        nobody = local.free_port()
        with pytest.raises(local.HeadError, match="starting"):
            local._wait_until_up(process, f"http://127.0.0.1:{nobody}", nobody, tmp_path / "head.log", None)
        process.kill()


@pytest.mark.parametrize("experiment", [None, "words.yaml"], ids=["no plan", "a plan"])
def test_a_named_cluster_is_run_on(
    experiment: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.yaml").write_text("name: words\nsteps:\n  words: {job: letters, train: 10}\n")
    monkeypatch.chdir(tmp_path)
    options = [] if experiment is None else ["--plan", experiment]
    with server(200, RAY) as port:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
        assert local.main([*options, sys.executable, "-c", "print('ran')"]) == 0
    said = capfd.readouterr().out
    assert "ran" in said
    assert ("words" in said) == (experiment is not None)
