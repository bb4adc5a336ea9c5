"""The shipped experiment on Ray's real autoscaler: machines come for a gang and for a sweep's queue, and go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.autoscaling import CLUSTER, observe, settings
from cluster import local


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[Mapping[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with local.head(autoscaling=CLUSTER) as reachable:
            yield reachable


def test_machines_follow_the_work_and_a_gang_that_cannot_come_brings_none(
    cluster: Mapping[str, str], tmp_path: Path
) -> None:
    wanted = settings(tmp_path / "runs", tmp_path / "mlflow.db", gang=2, replicas=3, cpus=8)
    moments = list(observe([*wanted, "steps.tiny.resources.cpus_per_worker=8"], tmp_path / "runs", cluster))
    most = {
        doing: max(moment.machines for moment in moments if moment.doing == doing)
        for doing in ("letters", "tiny", "sweep")
    }
    assert most == {"letters": 0, "tiny": 2, "sweep": 3}
    assert moments[-1].machines == 0

    too_many = ["steps.tiny.resources={workers: 8, cpus_per_worker: 8, wait: 10}", "steps.tiny.epochs=2"]
    machines: list[int] = []
    with pytest.raises(RuntimeError, match=r"asked for 8 x \(8 CPU\).* within 10 seconds; the cluster has 0 CPU"):
        machines.extend(moment.machines for moment in observe([*wanted, *too_many], tmp_path / "runs", cluster))
    assert set(machines) <= {0}
