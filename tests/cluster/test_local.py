"""Whose cluster a command runs on: one that is named, this user's own at the usual port, else one for the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


def test_a_named_cluster_is_run_on(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with server(200, RAY) as port:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
        assert local.main([sys.executable, "-c", "print('ran')"]) == 0
    assert "ran" in capfd.readouterr().out
