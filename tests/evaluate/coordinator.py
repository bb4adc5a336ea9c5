"""A gang whose coordinator dies while it holds the whole cluster."""

from __future__ import annotations

import os
import signal
from typing import Any

import ray
from ray.util.placement_group import placement_group


class Coordinator:
    """The group that it makes is its own, and Ray does not give it back when only its process is killed."""

    def take(self, bundles: list[dict[str, float]]) -> int:
        """Takes `bundles`; returns its process."""
        assert placement_group(bundles).wait(30)
        return os.getpid()


def killed_coordinator(bundles: list[dict[str, float]]) -> Any:
    """One that held `bundles`, and was killed; they are held for as long as its handle is."""
    coordinator = ray.remote(num_cpus=0, max_restarts=0)(Coordinator).remote()
    os.kill(ray.get(coordinator.take.remote(bundles)), signal.SIGKILL)
    return coordinator
