"""Many units on many replicas: who decodes what, who replaces whom, and that everything is given back in the end.

A replica is an actor in a placement group of its own, one bundle with all it needs. The driver hands out units, a few
more than a replica decodes at once, so that none waits for the driver; which are whose is known here only. When a
replica dies, its units go back to the front of the queue with whatever it had written of them. Replicas are as many as
there is work for, between the two numbers of the config: more are asked of the cluster as the queue grows, and each is
released as soon as there is nothing left for it.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jobs.evaluate.engines import EngineError
from jobs.evaluate.replica import Decoded, Replica, ReplicaSpec, Report, Work
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.trace_files import Index, UnitId
from jobs.evaluate.tree import wanted
from orchestrator.step import StepError

POLL_SECONDS = 1.0
OVERDUE_SECONDS = 10.0
"""Beyond the deadline for tokens: a replica that has not answered by then is past asking, and is ended."""
RELEASE_SECONDS = 120.0
"""Within which a replica must be gone once it was told to close."""


@dataclass(eq=False)
class _Member:
    """A replica as the driver sees it."""

    group: PlacementGroup
    actor: Any
    asked: float
    """When its resources were asked for, in monotonic seconds."""
    reply: Any
    """The call it is busy with: start, exchange or close."""
    called: float
    """When that was made, in monotonic seconds."""
    state: Literal["starting", "working", "mute", "closing"] = "starting"
    holding: dict[UnitId, Work] = field(default_factory=dict)
    at_once: int = 0
    """Units that it decodes at once, as far as is known; 0 before it has started."""
    finished_lately: int = 0


def decode(
    work: Iterable[Work],
    spec: ReplicaSpec,
    index: Index,
    resources: EvaluateResources,
    demand: dict[str, float],
    name: str,
    progress: Callable[[int], None],
    hold: Callable[[int], None] = lambda replicas: None,
) -> Decoded:
    """Decodes all of `work`, in its order as far as replicas are free. Returns what was decoded.

    `demand` is what one replica holds, `name` a word for this step that no other live step has; `progress` takes the
    number of units done, `hold` that of the replicas that have their resources. Raises StepError when the cluster has
    not the resources or the model cannot be loaded, and EngineError when replicas die more often than `resources`
    allow.
    """
    try:
        with _Pool(spec, index, resources, demand, name) as pool:
            return pool.run(work, progress, hold)
    finally:
        hold(0)


class _Pool:
    """The members and the queue. Leaving it releases everything."""

    def __init__(
        self, spec: ReplicaSpec, index: Index, resources: EvaluateResources, demand: dict[str, float], name: str
    ):
        self._spec = spec
        self._index = index
        self._resources = resources
        self._demand = demand
        self._name = name
        self._queue: deque[Work] = deque()
        self._members: list[_Member] = []
        self._launched = 0
        self._done = 0
        self._decoded = Decoded()
        self._failures = 0
        self._ever_started = False

    def __enter__(self) -> _Pool:
        _remove_left_over(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        for member in list(self._members):
            self._release(member)

    def run(self, work: Iterable[Work], progress: Callable[[int], None], hold: Callable[[int], None]) -> Decoded:
        self._queue.extend(work)
        while self._queue or self._members:
            self._scale()
            self._check_waiting()
            ready, _ = ray.wait([member.reply for member in self._members], timeout=POLL_SECONDS)
            for member in [member for member in self._members if member.reply in ready]:
                self._hear(member)
            for member in [member for member in self._members if self._is_overdue(member)]:
                member.state = "mute"
                self._lose(member, EngineError(f"it did not answer for {time.monotonic() - member.called:.0f} s"))
            hold(sum(member.group.wait(0) for member in self._members))
            progress(self._done)
        return self._decoded

    def _scale(self) -> None:
        """Asks for as many replicas as there is work for."""
        resources = self._resources
        units = len(self._queue) + sum(len(member.holding) for member in self._members)
        each = min((member.at_once for member in self._members if member.at_once), default=resources.in_flight)
        enough = max(resources.replicas.min, min(resources.replicas.max, ceil(units / each)))
        members = [member for member in self._members if member.state != "closing"]
        while self._queue and len(members) < enough:
            members.append(self._launch())

    def _launch(self) -> _Member:
        group = placement_group([self._demand], strategy="STRICT_PACK", name=f"{self._name}-{uuid.uuid4().hex[:8]}")
        actor = (
            ray.remote(Replica)
            .options(
                num_cpus=self._demand["CPU"],
                num_gpus=self._demand.get("GPU", 0),
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
            )
            .remote(self._spec, f"replica-{self._launched}")
        )
        now = time.monotonic()
        member = _Member(group, actor, asked=now, reply=actor.start.remote(), called=now)
        self._members.append(member)
        self._launched += 1
        return member

    def _check_waiting(self) -> None:
        """Raises StepError when fewer replicas than needed were given their resources for too long."""
        waiting = [member for member in self._members if member.state == "starting" and not member.group.wait(0)]
        placed = len(self._members) - len(waiting)
        late = [member for member in waiting if time.monotonic() - member.asked > self._resources.wait]
        if late and placed < self._resources.replicas.min:
            raise StepError(shortage(self._demand, self._resources.replicas.min, self._resources.wait))

    def _hear(self, member: _Member) -> None:
        """Takes the answer of `member` and gives it something else to do."""
        try:
            answer = ray.get(member.reply)
        except (RayActorError, EngineError) as error:
            self._lose(member, error)
            return
        except StepError as error:
            raise StepError(_said(error)) from error
        if member.state == "closing":
            self._release(member)
            return
        if member.state == "starting":
            _, cache_tokens = answer
            member.state, member.at_once = "working", self._at_once(cache_tokens)
            self._ever_started = True
        else:
            self._acknowledge(member, answer)
        grant = self._grant(member)
        if grant or member.holding:
            member.holding |= {(work.unit.item, work.unit.sample): work for work in grant}
            member.reply, member.called = member.actor.exchange.remote(grant), time.monotonic()
        else:
            member.state, member.reply = "closing", member.actor.close.remote()

    def _is_overdue(self, member: _Member) -> bool:
        """Whether a member that works should have answered long ago: every second, unless its event loop is held up."""
        patience = self._resources.token_deadline + OVERDUE_SECONDS
        return member.state == "working" and time.monotonic() - member.called > patience

    def _acknowledge(self, member: _Member, report: Report) -> None:
        for unit in report.finished:
            del member.holding[unit]
        member.finished_lately = len(report.finished)
        member.at_once = report.at_once
        self._done += len(report.finished)
        self._decoded += report.decoded
        for file in report.damaged:
            self._index.discard(file)
        if report.unreadable:
            self._take_back([member.holding.pop(unit) for unit in report.unreadable])

    def _at_once(self, cache_tokens: int | None) -> int:
        """Units that a replica decodes at once, before it can tell: as if each became as long as it may."""
        most = self._resources.in_flight
        if cache_tokens is None or not self._queue:
            return most
        first = self._queue[0]
        return max(1, min(most, cache_tokens // first.longest(self._spec.trees[first.unit.tree], self._spec.forcing)))

    def _grant(self, member: _Member) -> list[Work]:
        """Units for `member`: what it lacks to be busy, and a reserve that lasts until it is heard again.

        The reserve shrinks with the queue, so that replicas finish together.
        """
        spare = max(member.at_once, 2 * member.finished_lately)
        reserve = min(spare, len(self._queue) // (2 * len(self._members)))
        count = max(0, member.at_once + reserve - len(member.holding))
        return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def _lose(self, member: _Member, error: Exception) -> None:
        """Gives the units of a dead member back and counts the loss. The pool grows back by itself."""
        if isinstance(error, EngineError) and not self._ever_started:
            raise StepError(f"engine: {_said(error)}") from error
        held = list(member.holding.values())
        self._release(member)
        if member.state == "closing":
            return
        self._failures += 1
        print(f"a replica was lost ({self._failures} of {self._resources.retries} allowed): {_said(error)}")
        if self._failures > self._resources.retries:
            raise EngineError(
                f"replicas were lost {self._failures} times, and resources.retries allows {self._resources.retries}; "
                f"the last time: {_said(error)}"
            ) from error
        self._take_back(held)

    def _take_back(self, held: Sequence[Work]) -> None:
        """Puts units at the front of the queue, with all that is on disk of them by now."""
        self._index.refresh()
        again = []
        for work in held:
            unit = work.unit
            known = self._index.unit(unit.item, unit.sample)
            if any(True for _ in wanted(self._spec.trees[unit.tree], unit.room, known.extent)):
                again.append(Work(unit, tuple(known.rows), tuple(self._index.places(known.rows))))
            else:
                self._done += 1
        self._queue.extendleft(reversed(again))

    def _release(self, member: _Member) -> None:
        """Ends a member, whatever state it is in, and sees that it is gone."""
        self._members.remove(member)
        if member.state == "working":
            with suppress(RayActorError, EngineError, GetTimeoutError):  # then it is ended the hard way
                ray.get(member.actor.close.remote(), timeout=RELEASE_SECONDS)
        ray.kill(member.actor)
        remove_placement_group(member.group)
        deadline = time.monotonic() + RELEASE_SECONDS
        while not (_is_dead(member.actor) and placement_group_table(member.group)["state"] == "REMOVED"):
            if time.monotonic() > deadline:
                raise EngineError(f"a replica did not release {self._demand} within {RELEASE_SECONDS:.0f} s")
            time.sleep(0.05)


def shortage(demand: dict[str, float], replicas: int, waited: float) -> str:
    """Says what was asked for, what the cluster has, and what of it is free."""
    total, free = ray.cluster_resources(), ray.available_resources()
    asked = ", ".join(f"{amount:g} {kind}" for kind, amount in demand.items())
    has = ", ".join(f"{total.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind in demand)
    return (
        f"resources: {replicas} x {asked} on one machine each did not come within {waited:g} s; the cluster has {has}: "
        "lower resources.cpus, gpus or replicas.min, or add machines"
    )


def _is_dead(actor: Any) -> bool:
    """Whether calls to the actor fail, as they do once its process is gone."""
    try:
        ray.get(actor.exchange.remote([]), timeout=1)
    except RayActorError:
        return True
    except (GetTimeoutError, EngineError):
        return False
    return False


def _remove_left_over(name: str) -> None:
    """Removes the groups of a driver that was killed before it could."""
    for entry in placement_group_table().values():
        if entry["name"].startswith(f"{name}-") and entry["state"] != "REMOVED":
            remove_placement_group(get_placement_group(entry["name"]))


def _said(error: BaseException) -> str:
    """The last line of what an error says: Ray puts the remote traceback before it."""
    error = getattr(error, "cause", None) or error
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
