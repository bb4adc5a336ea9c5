"""One replica of a pool as the driver sees it: from asking for its resources until it has given all of them back.

A replica is an actor in a placement group of its own, one bundle with all it needs. It is busy with one call at a time.
However it ends (told to close, killed, with its machine), what it left on its machine is ended too, and others can have
what it held only then.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from jobs.cluster_state import gone, leaving
from jobs.evaluate.decode.leftovers import end_orphans, wait_until_gone
from jobs.evaluate.decode.replica import Fetched, Replica, ReplicaSpec, Work
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.traces.files import UnitId
from orchestrator.job.errors import StepError

SILENT_SECONDS = 3.0
"""Without an answer after which it is looked whether a replica's machine is still there. It answers every second."""
GOING_DOWN_SECONDS = 3.0
"""That a machine may still take connections after it ended a replica."""
OVERDUE_SECONDS = 10.0
"""Beyond the deadline for tokens: a replica that has not answered by then is past asking, and is ended."""
RELEASE_SECONDS = 120.0
"""Within which a replica must be gone once it was told to close."""


@dataclass(eq=False)
class Member:
    """What is known of a replica, and what it is told."""

    name: str
    group: PlacementGroup
    actor: Any
    asked: float
    """When its resources were asked for, in monotonic seconds."""
    waits_since: float
    """The same, or when it was last said that it still waits."""
    reply: Any
    """The call it is busy with: fetch, start, exchange or close."""
    called: float
    """When that was made, in monotonic seconds."""
    state: Literal["fetching", "starting", "working", "mute", "closing", "gone"] = "fetching"
    holding: dict[UnitId, Work] = field(default_factory=dict)
    at_once: int = 0
    """Units that it decodes at once, as far as is known; 0 before it has started."""
    fetched: Fetched = field(default_factory=lambda: Fetched(False))
    """How much of the model its machine has."""
    finished_lately: int = 0
    tokens: int = 0
    """That it decoded, as far as they are on disk."""
    unwritten: int = 0
    """Of the units that it holds, those that are done and not on disk yet: they take no room."""
    sizes: Mapping[UnitId, int] = field(default_factory=dict)
    """Tokens of the units that it was decoding when it was last heard."""
    machine: str = ""
    """The id of the one that it is on, once it was placed."""
    granted: float = 0.0
    """When it was given its resources, in monotonic seconds."""
    paid: bool = False
    """Whether what it holds is being counted."""
    process: int | None = None
    """Its process id, once it has started."""
    closed: bool = False
    """Whether it ended by itself, and its engine with it."""
    swept: Any = None
    """The call that ends what it left on its machine, where it did not."""

    def place(self) -> bool:
        """Whether it was given its resources. Ray's head knows; `PlacementGroup.wait(0)` says so only now and then."""
        if not self.machine and (state := placement_group_table(self.group))["state"] == "CREATED":
            self.machine = state["bundles_to_node_id"][0]
            latency = state["stats"]["end_to_end_creation_latency_ms"] / 1000
            self.granted = min(time.monotonic(), self.asked + latency)
        return bool(self.machine)

    def call(self, method: Literal["fetch", "start", "exchange", "close"], *arguments: object) -> None:
        """Gives it something to do. It must not be busy with anything else, except where it is told to close."""
        self.reply, self.called = getattr(self.actor, method).remote(*arguments), time.monotonic()

    def close(self) -> None:
        """Tells it to write what it has and to end."""
        self.state = "closing"
        self.call("close")

    def is_overdue(self, token_deadline: float) -> bool:
        """Whether it should have answered: every second when it works, unless its event loop is held up."""
        silent = time.monotonic() - self.called
        if not self.machine or silent < SILENT_SECONDS:
            return False
        late = self.state == "working" and silent > token_deadline + OVERDUE_SECONDS
        return late or gone(self.machine)

    def was_taken_away(self, error: Exception) -> bool:
        """Whether it was lost with its machine, which may be on its way down where Ray knows of no other reason."""
        deadline = time.monotonic() + (GOING_DOWN_SECONDS if isinstance(error, ActorUnavailableError) else 0)
        while self.place():
            if gone(self.machine) or self.machine in leaving():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return False

    def end(self) -> None:
        """Ends it, whatever state it is in: if it works, after it has written what it has."""
        if self.state == "working" and not gone(self.machine):
            with suppress(RayActorError, EngineError, StepError, GetTimeoutError):  # then it is ended the hard way
                ray.get(self.actor.close.remote(), timeout=RELEASE_SECONDS)
                self.closed = True
        ray.kill(self.actor)

    def release(self) -> None:
        """Has Ray take its resources back. That it is gone is seen to later: its machine may not answer."""
        remove_placement_group(self.group)

    def is_released(self) -> bool:
        """Whether Ray has taken them."""
        return bool(placement_group_table(self.group)["state"] == "REMOVED")

    def gave_back(self) -> bool:
        """Whether it is gone, and nothing of it is left on its machine."""
        if not self.is_released():
            return False
        return self.state == "gone" or (_is_dead(self.actor) and self._is_swept())

    def _is_swept(self) -> bool:
        """What cannot be ended of what it left is said in the step's log."""
        if self.closed or not self.machine:
            return True
        if self.swept is None:
            there = NodeAffinitySchedulingStrategy(self.machine, soft=False)
            self.swept = _sweep.options(scheduling_strategy=there).remote(self.process)
        try:
            ray.get(self.swept, timeout=0)
        except GetTimeoutError:
            return gone(self.machine)
        except (RayError, EngineError) as error:
            print(said(error), flush=True)
        return True


def launch(spec: ReplicaSpec, demand: dict[str, float], name: str, number: int) -> Member:
    """Asks for the resources of replica `number`, and has it fetch the model as soon as it has them.

    `name` is what the group's name begins with: :func:`orchestrator.job.groups.remove_groups` knows it by that.
    """
    asked, called = time.monotonic(), f"replica-{number}"
    group = placement_group([demand], strategy="STRICT_PACK", name=f"{name}-{uuid.uuid4().hex[:8]}")
    actor = (
        ray.remote(Replica)
        .options(
            num_cpus=demand["CPU"],
            num_gpus=demand.get("GPU", 0),
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
        )
        .remote(spec, called)
    )
    return Member(called, group, actor, asked, asked, reply=actor.fetch.remote(), called=time.monotonic())


@ray.remote(num_cpus=0, max_retries=0)
def _sweep(process: int | None) -> list[int]:
    """Ends what a replica left on this machine, once its own process is gone."""
    if process is not None:
        wait_until_gone(process)
    return end_orphans()


def _is_dead(actor: Any) -> bool:
    """Whether calls to the actor fail, as they do once its process is gone."""
    try:
        ray.get(actor.exchange.remote([]), timeout=1)
    except RayActorError:
        return True
    except (GetTimeoutError, EngineError):
        return False
    return False


def said(error: BaseException) -> str:
    """The last line of what an error says: Ray puts the remote traceback before it."""
    error = getattr(error, "cause", None) or error
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
