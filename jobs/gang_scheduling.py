"""Steps that share a cluster: what of it others hold, and when they let a gang go first.

Whatever a step holds is in placement groups of Ray's, and all runs are in one namespace, so Ray's table of groups tells
what the steps of all experiments hold and wait for. Two things follow from it. Who waits for what other steps hold is
not told that it cannot be had: they will give it back. And no sweep begins while a gang waits: what a step gives back
would otherwise go to whatever is small enough to fit in, and a gang that wants everything would never have its turn.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData

from jobs.cluster_state import machines, room
from orchestrator.job.resources import NAMESPACE

SETTLES_SECONDS = 5.0
"""For which what was just given back may be neither held nor free, as Ray's head sees it."""
ASKS_ANEW_SECONDS = 30.0
"""Within which a gang that still waits has asked once more."""


@dataclass(frozen=True)
class _Group:
    """What a step holds, or waits for, all of it at once."""

    bundles: tuple[Mapping[str, float], ...]
    places: tuple[str, ...]
    """Ids of the machines that the bundles are on; of no machine where they wait for one."""
    waits: bool


def will_fit(bundle: Mapping[str, float], count: int) -> bool:
    """Whether the step that asks can have `count` of `bundle`, now or once others have given back what they hold.

    What it has of that already is counted in. It takes `SETTLES_SECONDS` to say no.
    """
    deadline = time.monotonic() + SETTLES_SECONDS
    while not (fits := _would_fit(bundle, count)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return fits


def _would_fit(bundle: Mapping[str, float], count: int) -> bool:
    held: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for group in _groups():
        for resources, place in zip(group.bundles, group.places, strict=True):
            held[place].append(resources)
    without_steps = [
        {name: machine.free.get(name, 0) + sum(each.get(name, 0) for each in held[machine.id]) for name in bundle}
        for machine in machines()
    ]
    return sum(room(bundle, free) for free in without_steps) >= count


@dataclass(frozen=True)
class Granted:
    """A group that has its resources."""

    when: float
    """Since 1970, by the clock of Ray's head."""
    bundles: tuple[Mapping[str, float], ...]


def granted(name: str) -> dict[str, Granted]:
    """The groups, by id, whose names begin with `name` and that have their resources."""
    grants = {}
    for group in _table():
        if group.state == PlacementGroupTableData.CREATED and group.name.startswith(f"{name}-"):
            stats = group.stats
            when = stats.creation_request_received_ns / 1e9 + stats.end_to_end_creation_latency_us / 1e6
            bundles = tuple(dict(each.unit_resources) for each in group.bundles)
            grants[group.placement_group_id.hex()] = Granted(when, bundles)
    return grants


class WaitingGangs:
    """Those that a step that begins lets go first."""

    def __init__(self) -> None:
        self._seen = -math.inf
        """When there was one, in monotonic seconds."""

    def go_first(self) -> bool:
        """Whether one waits, or did a moment ago: a gang that asks anew is not in Ray's table for some seconds."""
        if _gang_waits():
            self._seen = time.monotonic()
        return time.monotonic() - self._seen < ASKS_ANEW_SECONDS


def _gang_waits() -> bool:
    """Whether a step waits for several bundles at once that would fit if nothing else ran."""
    waiting = [group for group in _groups() if group.waits and len(group.bundles) > 1]
    there = machines() if waiting else []
    return any(
        sum(room(group.bundles[0], machine.total) for machine in there) >= len(group.bundles) for group in waiting
    )


def _groups() -> Iterator[_Group]:
    for group in _table():
        yield _Group(
            tuple(dict(each.unit_resources) for each in group.bundles),
            tuple(each.node_id.hex() for each in group.bundles),
            group.state == PlacementGroupTableData.PENDING,
        )


def _table() -> Iterator[PlacementGroupTableData]:
    """The groups of all runs on this cluster. Ray's public table has neither their namespaces nor who made them."""
    for record in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(record)
        if group.ray_namespace == NAMESPACE and group.state != PlacementGroupTableData.REMOVED:
            yield group
