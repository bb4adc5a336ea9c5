"""A cluster of other versions is noticed before anything is run on it; a real head is asked in test_submission."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator import cluster_versions, doctor
from orchestrator.cluster_versions import NotAsked, Versions, of_dashboard
from tests.serving import Quiet, serving

TOKEN = "the cluster's"
HERE = Versions.here()


@contextmanager
def dashboard(ray: str, python: str | None, asks: bool = False) -> Iterator[str]:
    """What answers as Ray's dashboard does; an old one does not say its Python."""
    said: dict[str, object] = {"/api/version": {"version": "4", "ray_version": ray}}
    if python is not None:
        said["/api/v0/cluster_metadata"] = {"result": True, "data": {"rayVersion": ray, "pythonVersion": python}}

    class Answer(Quiet):
        def do_GET(self) -> None:
            status = 200 if self.path in said else 404
            if asks and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status = 403
            self.say(status, json.dumps(said.get(self.path)).encode())

    with serving(Answer) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
@pytest.mark.parametrize(
    ("ray", "python", "remedy"),
    [
        (HERE.ray, HERE.python, ""),
        (HERE.ray, None, ""),
        ("2.9.3", None, "give both the same: here pip install ray==2.9.3, or there what is here"),
        ("2.9.3", "3.9.1", "give both the same: here pip install ray==2.9.3, or there what is here"),
        (
            *(HERE.ray, "3.12.9"),
            f"give both the same: an environment of Python 3.12.9 here, or of {HERE.python} there",
        ),
    ],
)
def test_other_versions_are_one_line_with_both_and_a_remedy(
    name: str, ray: str, python: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dashboard(ray, python) as address:
        monkeypatch.setenv(name, address)
        (finding,) = doctor.clusters()
    there = f"Ray {ray}" + (f" and Python {python}" if python else "")
    has = (
        f"has {there}, and this environment has Ray {HERE.ray} and Python {HERE.python}"
        if remedy
        else f"answers: {there}"
    )
    assert (finding.what, finding.said, finding.remedy) == ("cluster", f"{address} {has}", remedy)


def test_both_addresses_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with dashboard("2.9.3", None) as old, dashboard(HERE.ray, HERE.python) as same:
        monkeypatch.setenv("RAY_ADDRESS", same)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", old.removeprefix("http://"))
        assert [bool(each.remedy) for each in doctor.clusters()] == [False, True]


def test_the_token_is_given_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with dashboard(HERE.ray, HERE.python, asks=True) as address:
        with pytest.raises(NotAsked, match="asks for a token that it was not given") as refused:
            of_dashboard(address)
        assert refused.value.args[1].startswith("set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH")
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        assert of_dashboard(address) == HERE


def test_what_is_no_ray_is_said_to_be_none_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with dashboard("", None) as address, pytest.raises(NotAsked, match="404"):
        of_dashboard(f"{address}/elsewhere")
    monkeypatch.setattr(cluster_versions, "CLIENT_PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RAY_ADDRESS", "{}:{}".format(*silent.getsockname()))
        (finding,) = doctor.clusters()
    assert finding.said.endswith("listens, and no cluster answers: no answer in 1 s")
    assert finding.remedy == "see that it is the address of Ray's head"
