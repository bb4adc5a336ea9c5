"""Machines on this one: raylets that a test adds, announces to go, and switches off."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
import ray
from ray._private.node import Node
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from orchestrator.job.resources import NAMESPACE
from tests.conftest import ROOT

IMPATIENT = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
"""Settings of Ray, which asks a node five times whether it is there, and by itself takes 15 seconds for that."""


@contextmanager
def head_alone(settings: Mapping[str, int] | None = None) -> Iterator[Cluster]:
    """A head without CPUs, connected to, to which tests add nodes."""
    folder = tempfile.mkdtemp(prefix="nd", dir="/tmp")  # Ray's socket paths must be short.
    arguments = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, "_system_config": settings}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    variables = {"PYTHONPATH": str(ROOT)}
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False, runtime_env={"env_vars": variables})
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder)


def announce(cluster: Cluster, node: Node, seconds: float = 600) -> None:
    """Tells Ray, as its autoscaler does for a cloud, that a node will be taken away in so many seconds."""
    accepted, reason = GcsClient(address=cluster.address).drain_node(
        node.node_id,
        DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "a test takes it away",
        int((time.time() + seconds) * 1000),
    )
    assert accepted, reason


def switch_off(cluster: Cluster, node: Node) -> None:
    """Ends everything on a node at the same moment, without a word to anybody."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    everything = [raylet, *raylet.children(recursive=True)]
    for process in everything:
        process.suspend()
    for process in everything:
        process.kill()
    cluster.remove_node(node, allow_graceful=False)
