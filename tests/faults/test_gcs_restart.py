"""A cluster whose head loses its GCS for a while, where Redis keeps what the GCS knows: Ray can start it again.

    make test-faults

Needs ``redis-server``, which a machine that has nothing but Python may not have; so `make test` leaves it out.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from benchmarks.chaos import Run, Totals, compare, undisturbed, wait

DOWN_SECONDS = 10.0
"""Ray's own patience is a minute."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head with two CPUs, whose GCS keeps what it knows in Redis."""
    folder = tempfile.mkdtemp(prefix="gcs", dir="/tmp")  # Ray's socket paths must be short.
    with redis(Path(folder)) as address:
        monkeypatch.setenv("RAY_REDIS_ADDRESS", address)
        head = {"num_cpus": 2, "include_dashboard": False, "temp_dir": f"{folder}/ray"}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        monkeypatch.delenv("RAY_REDIS_ADDRESS")
        try:
            yield cluster
        finally:
            cluster.shutdown()
    shutil.rmtree(folder)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A server of this machine. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, "redis-server ended"
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_a_run_goes_on_when_the_gcs_is_killed_and_comes_back_while_it_trains_and_while_it_decodes(
    cluster: Cluster, tmp_path: Path
) -> None:
    expected, _ = undisturbed(tmp_path / "undisturbed")
    run = Run(tmp_path / "struck", {"RAY_ADDRESS": cluster.address})
    for step, enough in (("tiny", 20), ("sweep", 3)):
        run.until(step, enough)
        cluster.head_node.kill_gcs_server()
        time.sleep(DOWN_SECONDS)
        cluster.head_node.start_gcs_server()
    wait(run)
    assert run.starts == 1, (run.folder / "output.txt").read_text()
    totals = Totals()
    compare(expected, run.results(), totals)
    assert (totals.lost, totals.duplicated, totals.differing) == (0, 0, 0)
    assert not [*run.folder.glob("runs/*/losses.json")]
    for status in run.folder.glob("runs/*/status.json"):
        assert not json.loads(status.read_text())["restarts"]
