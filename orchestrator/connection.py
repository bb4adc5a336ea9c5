"""A run's connection to Ray: to the cluster that ``RAY_ADDRESS`` names, else to one of its own.

A cluster that cannot be used is one line (:class:`ClusterError`), and so is one that is lost while a run uses it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray

from cluster.own_ray import own_cluster
from orchestrator.job.resources import NAMESPACE

ANSWER_SECONDS = 5.0
"""How long the cluster that RAY_ADDRESS names may take to accept a connection."""


class ClusterLost(Exception):
    """Ray's process on this machine has died, and with it all that the run could start. Says so, in one line."""


class ClusterError(Exception):
    """The cluster that RAY_ADDRESS names cannot be used. One line."""


@contextmanager
def connected() -> Iterator[None]:
    """A connection to the cluster that RAY_ADDRESS names (as it does in a Ray job), else a local one for this run."""
    address = os.environ.get("RAY_ADDRESS")
    with nullcontext() if address else own_cluster():
        local: dict[str, Any] = {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            if address:
                _reach(address)
            ray.init(address=address or "local", namespace=NAMESPACE, **quiet, **local)
        except (RuntimeError, OSError) as error:
            if address is None:
                raise
            raise ClusterError(refused(address, error)) from error
        try:
            yield
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError where nothing listens at `address`: Ray itself goes on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def check() -> None:
    """Raises ClusterLost when Ray counts this machine as dead: what is asked for then never starts."""
    here = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == here and node["Alive"] for node in ray.nodes()):
        raise ClusterLost("infrastructure: Ray's process on this machine (raylet) has died; run the same command again")


def refused(address: str, error: Exception) -> str:
    """Why Ray would not connect to the cluster at `address`, in a line: other versions are named, and a token."""
    versions = re.findall(r"(Ray|Python): (\S+)", str(error))
    if "Version mismatch" in str(error) and len(versions) == 4:
        theirs, ours = (
            " and ".join(f"{name} {number}" for name, number in pair) for pair in (versions[:2], versions[2:])
        )
        return f"RAY_ADDRESS: the cluster at {address} has {theirs}, and this is {ours}: give both the same"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # Ray has this line also for a cluster that answered, and wanted a token.
    asked = "Failed to connect to Ray cluster" in first and os.environ.get("RAY_AUTH_MODE") != "token"
    token = "; something listens there: if it asks for a token, set RAY_AUTH_MODE=token" if asked else ""
    return f"RAY_ADDRESS: no cluster can be used at {address}: {first}{token}"
