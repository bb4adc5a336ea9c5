"""What tests of sweeps share."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import placement_group_table

from tests.ray_cluster import CPUS, ray_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


@pytest.fixture
def nothing_stays(cluster: None) -> Iterator[None]:
    """What a test took of the cluster is given back by its end."""
    yield
    assert {entry["state"] for entry in placement_group_table().values()} <= {"REMOVED"}
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != CPUS:
        assert time.monotonic() < deadline, "resources are still held"
        time.sleep(0.1)
