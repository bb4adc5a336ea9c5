"""The machines of the cluster, as a job sees them that has lost one, may lose one, or waits for one.

Clouds announce that a machine goes, and Ray then starts nothing on it any more; or a machine is gone without a word,
and Ray takes up to a minute to be sure. Jobs that know which machine their processes are on can tell both from a
process that died by itself, and need not wait.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._private.state import available_resources_per_node, state
from ray.autoscaler.v2.sdk import get_cluster_status

from cluster import catalogue

REACHED_WITHIN = 2.0
"""Seconds in which a machine that is there takes a connection."""


def leaving() -> set[str]:
    """Ids of the machines that were announced to go. Ray has no public way to ask."""
    return set(state.get_draining_nodes())


def gone(machine: str) -> bool:
    """Whether a machine is lost: Ray says so, or it takes no connection any more."""
    entry = next((node for node in ray.nodes() if node["NodeID"] == machine), None)
    if entry is None or not entry["Alive"]:
        return True
    try:
        # Its raylet; that of a machine that was just switched off refuses, or does not answer at all.
        socket.create_connection((entry["NodeManagerAddress"], entry["NodeManagerPort"]), REACHED_WITHIN).close()
    except OSError:
        return True
    return False


@dataclass(frozen=True)
class Machine:
    """One that is there and stays."""

    id: str
    kind: str
    """What the cluster file calls machines of its type."""
    total: Mapping[str, float]
    free: Mapping[str, float]

    def holds(self, bundle: Mapping[str, float]) -> int:
        """How many of `bundle` what is free has room for."""
        return room(bundle, self.free)


def machines() -> list[Machine]:
    """Those that can be given work."""
    free, going = available_resources_per_node(), leaving()
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    kinds = {node.node_id: node.ray_node_type_name for node in [*status.active_nodes, *status.idle_nodes]}
    return [
        Machine(node["NodeID"], _kind(node["NodeID"], kinds), node["Resources"], free.get(node["NodeID"], {}))
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in going
    ]


def starting() -> list[str]:
    """The types of the machines that the autoscaler has asked for and that are not there yet, one for each."""
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    launching = [launch.ray_node_type_name for launch in status.pending_launches for _ in range(launch.count)]
    return [*launching, *(node.ray_node_type_name for node in status.pending_nodes)]


def _kind(machine: str, kinds: Mapping[str | None, str]) -> str:
    """Without an autoscaler Ray calls each machine's type by the machine's id."""
    kind = kinds.get(machine, "")
    return "machine" if not kind or machine in kind else kind


def shortage(bundle: Mapping[str, float], count: int, waited: float, settings: str) -> str:
    """What to tell who waited in vain for `count` of `bundle`, each on one machine; `settings` are what asked for it.

    One line: what was asked for, what the cluster has of it, all together and by type of machine, and what would fit.
    """
    there = machines()
    return (
        f"resources: asked for {count} x ({amounts(bundle)}), each on one machine, and did not get them within "
        f"{waited:g} seconds; the cluster has {_all_together(bundle, there)}{_by_type(bundle, there)}; "
        f"{_what_would_fit(bundle, count, there)}: lower {settings}, wait longer (resources.wait), or add machines"
    )


def amounts(bundle: Mapping[str, float]) -> str:
    """``2 CPU, 1 GPU``."""
    return ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def _all_together(names: Iterable[str], there: Sequence[Machine]) -> str:
    return ", ".join(
        f"{sum(machine.total.get(name, 0) for machine in there):g} {name} "
        f"({sum(machine.free.get(name, 0) for machine in there):g} free)"
        for name in names
    )


def _by_type(names: Iterable[str], there: Sequence[Machine]) -> str:
    """`` on 2 x gpu-spot of 192 CPU, 8 GPU``; empty where no machine has any of it."""
    counts = Counter(
        f"{machine.kind} of {amounts({name: machine.total.get(name, 0) for name in names})}"
        for machine in there
        if any(machine.total.get(name, 0) for name in names)
    )
    return f" on {' and '.join(f'{count} x {kind}' for kind, count in counts.items())}" if counts else ""


def _what_would_fit(bundle: Mapping[str, float], count: int, there: Sequence[Machine]) -> str:
    now = sum(machine.holds(bundle) for machine in there)
    alone = sum(room(bundle, machine.total) for machine in there)
    if now:
        return f"{now} of {count} would fit now" + (f", {alone} if nothing else ran" if alone > now else "")
    if alone:
        return f"{min(alone, count)} of {count} would fit if nothing else ran"
    within = [{name: min(amount, machine.total.get(name, 0)) for name, amount in bundle.items()} for machine in there]
    shares = [sum(part[name] / amount for name, amount in bundle.items() if amount) for part in within]
    nearest = within[shares.index(max(shares))] if within else {}
    has = "no machine that is there has any of it"
    if any(nearest.values()):
        has = f"no machine there is large enough, and the nearest that one has is {amounts(nearest)}"
    gpus = bundle.get("GPU", 0)
    types = [name for name in catalogue.names() if (known := catalogue.machine(name)).whole and known.cards >= gpus]
    return f"{has}; machines with {gpus:g} GPU are {', '.join(types)}" if gpus and types else has


def room(bundle: Mapping[str, float], has: Mapping[str, float]) -> int:
    """How many of `bundle` there is room for in what a machine has."""
    return min(int(has.get(name, 0) // amount) for name, amount in bundle.items() if amount)
