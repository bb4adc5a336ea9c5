"""A run's own Ray listens on the loopback interface alone and wants the run's token, whatever the environment says."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from cluster.own_ray import ONLY_LOOPBACK, _look_again, closed, new_token, own_cluster
from tests.conftest import ROOT

pytestmark = pytest.mark.processes

LISTENING = """
import json, os, sys
import psutil, ray
from orchestrator.connection import connected

with connected():
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = []
    for each in family:
        try:
            found += [c.laddr.ip for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.Error:
            pass
    token = os.environ["RAY_AUTH_TOKEN_PATH"]
    address = ray.get_runtime_context().gcs_address
    print(json.dumps({"listening": sorted(set(found)), "token": token, "mode": oct(os.stat(token).st_mode)[-3:]}))
    print(address, flush=True)
    sys.stdin.readline()
print(json.dumps({"left": os.path.exists(token), "auth": os.environ.get("RAY_AUTH_MODE")}))
"""

JOIN_SECONDS = 40.0
JOIN = "import ray; ray.init(address={address!r}, log_to_driver=False); print('joined')"


def joins(address: str, folder: Path, said: dict[str, str]) -> bool:
    """Whether a process with that environment gets into the cluster. Ray tries for minutes where it is refused."""
    command = [sys.executable, "-c", JOIN.format(address=address)]
    try:
        told = subprocess.run(
            command, env=environment(**said), cwd=folder, capture_output=True, text=True, timeout=JOIN_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return "joined" in told.stdout


def environment(**values: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": str(ROOT), **values}


@pytest.mark.parametrize(
    "said",
    [
        {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "known-to-all"},
    ],
    ids=["no token", "a known token"],
)
def test_a_runs_own_cluster_is_closed_whatever_the_environment_says(said: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING],
        env=environment(**said),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        assert run.stdin is not None
        found = json.loads(run.stdout.readline())
        address = run.stdout.readline().strip()
        assert found["listening"]
        assert all(ipaddress.ip_address(each.removeprefix("::ffff:")).is_loopback for each in found["listening"]), found
        assert found["mode"] == "600"
        others = said if "RAY_AUTH_TOKEN" in said else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"}
        tried = [dict(closed(Path(found["token"]))), {**others, ONLY_LOOPBACK: "0"}]
        with ThreadPoolExecutor() as threads:
            assert list(threads.map(partial(joins, address, tmp_path), tried)) == [True, False]
        run.stdin.write("\n")
        run.stdin.flush()
        after = json.loads(run.stdout.readline())
    assert run.returncode == 0
    assert after == {"left": False, "auth": said.get("RAY_AUTH_MODE")}


def test_a_token_is_for_its_owner_from_the_first_moment(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        token = new_token(tmp_path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    with pytest.raises(FileExistsError):
        new_token(tmp_path)
    assert closed(token)["RAY_AUTH_MODE"] == "token"


def test_the_environment_is_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    __import__("ray")  # which has an environment of its own
    before = dict(os.environ)
    with own_cluster():
        assert "RAY_AUTH_TOKEN" not in os.environ
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert dict(os.environ) == before
    monkeypatch.undo()
    _look_again(loopback=False)  # Ray keeps what it read, and other tests of this process are to have theirs
