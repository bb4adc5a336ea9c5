"""A sweep on machines that come and go: real raylets on this machine, with a scripted engine in the replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Decoded, Work
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.traces.files import Index
from orchestrator.job.retries import OutOfRetries, Retries
from tests.evaluate import scripted
from tests.evaluate.decode.test_pool import CPU, SCRIPT, assert_every_leaf_is_there, pids, quiet, spec, units, untold
from tests.nodes import announce, head_alone, switch_off

UNITS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with head_alone() as cluster:
        yield cluster


class Sweep:
    """One that is under way, in replicas of a CPU each."""

    def __init__(self, folder: Path, thread: ThreadPoolExecutor, retries: Retries, count: int):
        self.folder = folder
        self.lost: list[tuple[Mapping[str, int], str]] = []
        start = partial(scripted.start, pids(folder), SCRIPT, delay=0.02)
        self.running: Future[Decoded] = thread.submit(
            decode,
            [Work(unit) for unit in units(count)],
            spec(folder, start),
            Index(folder, quiet),
            EvaluateResources(in_flight=8, retries=retries, wait=60),
            CPU,
            folder.name,
            untold,
            lambda counts, reason: self.lost.append((counts, reason)),
        )

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert not self.running.done(), self.running.exception()
            assert time.monotonic() < deadline, "waited 60 s in vain"
            time.sleep(0.02)

    def written(self) -> int:
        return len(list(self.folder.glob("*.parquet")))

    def replicas(self) -> list[int]:
        """The processes of all that were started, the first one first."""
        files = sorted(pids(self.folder).iterdir(), key=lambda file: file.stat().st_mtime)
        return [int(file.name) for file in files]


@contextmanager
def under_way(folder: Path, retries: Retries, count: int = UNITS) -> Iterator[Sweep]:
    with ThreadPoolExecutor(1) as thread:
        sweep = Sweep(folder, thread, retries, count)
        sweep.until(lambda: sweep.written() > 2)
        yield sweep
    assert {entry["state"] for entry in placement_group_table().values()} <= {"REMOVED"}


def test_units_on_a_machine_that_is_about_to_go_are_handed_back_complete(cluster: Cluster, tmp_path: Path) -> None:
    going = cluster.add_node(num_cpus=1)
    with under_way(tmp_path, Retries(preempted=1, infrastructure=0)) as sweep:
        staying = cluster.add_node(num_cpus=1)
        announce(cluster, going)
        decoded = sweep.running.result(timeout=120)
    # The machine is still there: nothing was lost with it, so nothing was decoded twice.
    assert decoded == assert_every_leaf_is_there(tmp_path, units(UNITS))
    index = Index(tmp_path, quiet)
    assert sum(len(index.unit(unit.item, 0).rows) for unit in units(UNITS)) == index.size
    assert sweep.lost == [({"preempted": 1}, "preempted: its machine is about to go")]
    assert len(sweep.replicas()) == 2
    gone = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in sweep.replicas()):
        assert time.monotonic() < gone, "a replica is still there"
        time.sleep(0.1)
    for node in (going, staying):
        cluster.remove_node(node)


def test_units_of_a_machine_that_is_gone_without_a_word_go_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    nodes: list[Node] = [cluster.add_node(num_cpus=1)]
    with under_way(tmp_path, Retries(preempted=1, infrastructure=0)) as sweep:
        nodes.append(cluster.add_node(num_cpus=1))
        switch_off(cluster, nodes[0])
        sweep.running.result(timeout=120)
    assert_every_leaf_is_there(tmp_path, units(UNITS))
    ((counts, reason),) = sweep.lost
    assert (counts, reason) == ({"preempted": 1}, "preempted: its machine is gone")
    assert len(sweep.replicas()) == 2

    (tmp_path / "again").mkdir()
    with under_way(tmp_path / "again", Retries(preempted=0, infrastructure=9), 10 * UNITS) as sweep:
        switch_off(cluster, nodes[1])
        with pytest.raises(OutOfRetries, match=r"replicas were lost 1 times, and resources.retries.preempted allows 0"):
            sweep.running.result(timeout=120)
