"""What tests of sweeps share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_cluster import ray_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster(Path(__file__).parent):
        yield
