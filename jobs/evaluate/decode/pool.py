"""Many units on many replicas: who decodes what, who replaces whom, and that everything is given back in the end.

A replica is an actor in a placement group of its own, one bundle with all it needs. The driver hands out units, a few
more than a replica decodes at once, so that none waits for the driver; which are whose is known here only. When a
replica dies, its units go back to the front of the queue with whatever it had written of them. One whose machine was
announced to go is closed before that, and its units go back complete. Replicas are as many as there is work for,
between the two numbers of the config: more are asked of the cluster as the queue grows, and each is released as soon as
there is nothing left for it.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import ceil, inf
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

from cluster.catalogue import CPU, machine
from jobs.cluster_state import amounts, gone, leaving, shortage
from jobs.evaluate.decode.forecast import Forecast, Progress
from jobs.evaluate.decode.leftovers import end_orphans, wait_until_gone
from jobs.evaluate.decode.replica import Decoded, Fetched, Replica, ReplicaSpec, Report, Work
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import wanted
from jobs.evaluate.traces.files import Index, UnitId
from jobs.gang_scheduling import WaitingGangs, release_abandoned, will_fit
from orchestrator.job.errors import StepError
from orchestrator.job.groups import remove_groups
from orchestrator.job.retries import Cause, Losses, OutOfRetries, backoff, field_of
from orchestrator.job.usage import Meter

POLL_SECONDS = 1.0
LOOKING_UP_SECONDS = 0.05
"""That the loop waits for what is on disk of units that were given back. Of a small folder that is told by then."""
SILENT_SECONDS = 3.0
"""Without an answer after which it is looked whether a replica's machine is still there. It answers every second."""
GOING_DOWN_SECONDS = 3.0
"""That a machine may still take connections after it ended a replica."""
OVERDUE_SECONDS = 10.0
"""Beyond the deadline for tokens: a replica that has not answered by then is past asking, and is ended."""
RELEASE_SECONDS = 120.0
"""Within which a replica must be gone once it was told to close."""


@dataclass(eq=False)
class _Member:
    """A replica as the driver sees it."""

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


def decode(
    work: Iterable[Work],
    spec: ReplicaSpec,
    index: Index,
    resources: EvaluateResources,
    demand: dict[str, float],
    name: str,
    progress: Callable[[Progress], None],
    lost: Callable[[Mapping[str, int], str], None] = lambda counts, reason: None,
    meter: Meter | None = None,
    devices: float = 0.0,
    forecast: Forecast | None = None,
    most: Callable[[Unit], float] = lambda unit: inf,
    fetching: Callable[[Fetched], None] = lambda fetched: None,
) -> Decoded:
    """Decodes all of `work`, in its order as far as replicas are free. Returns what was decoded.

    `demand` is what one replica holds, `name` a word for this step that no other live step has. `progress` is told how
    far it is by `forecast`, which knows the units that were done before, and `most`, the tokens that a unit may come
    to; while no replica has the model yet, `fetching` is told instead. `lost` takes how many replicas were lost by
    cause and why the last. `meter` counts `devices` for each replica, from when it is given its resources until it has
    given them back, and the tokens. Raises StepError when the cluster has not the resources or the model cannot be
    loaded, and OutOfRetries when replicas are lost more often than `resources` allow.
    """
    with _Pool(spec, index, resources, demand, name, lost, meter, devices, forecast, most) as pool:
        return pool.run(work, progress, fetching)


class _Pool:
    """The members and the queue. Leaving it releases everything."""

    def __init__(
        self,
        spec: ReplicaSpec,
        index: Index,
        resources: EvaluateResources,
        demand: dict[str, float],
        name: str,
        lost: Callable[[Mapping[str, int], str], None],
        meter: Meter | None,
        devices: float,
        forecast: Forecast | None,
        most: Callable[[Unit], float],
    ):
        self._forecast = forecast or Forecast(0)
        self._most = most
        self._meter = meter or Meter(machine(CPU))
        self._devices = devices
        self._spec = spec
        self._index = index
        self._resources = resources
        self._demand = demand
        self._name = name
        self._traces = ThreadPoolExecutor(1, "traces")
        """All that touches the index happens in this thread: it may have much to read, and the loop must not wait."""
        self._returning: list[Future[tuple[list[Work], list[int]]]] = []
        self._queue: deque[Work] = deque()
        self._members: list[_Member] = []
        self._launched = 0
        self._done = 0
        self._decoded = Decoded()
        self._tell_losses = lost
        self._losses = Losses(resources.retries)
        self._next_launch = 0.0
        """In monotonic seconds: after a loss it waits, the longer the more were lost before a unit was done."""
        self._gangs = WaitingGangs()
        self._in_a_row = 0
        self._done_before = 0
        self._ended: list[_Member] = []
        """Members that were ended and are not seen to be gone yet."""
        self._ever_started = False

    def __enter__(self) -> _Pool:
        remove_groups(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        for member in list(self._members):
            self._release(member)
        self._traces.shutdown()
        deadline = time.monotonic() + RELEASE_SECONDS
        while self._ended:
            if time.monotonic() > deadline:
                raise EngineError(f"a replica did not release {self._demand} within {RELEASE_SECONDS:.0f} s")
            time.sleep(0.05)
            self._forget_ended()

    def run(
        self, work: Iterable[Work], progress: Callable[[Progress], None], fetching: Callable[[Fetched], None]
    ) -> Decoded:
        self._queue.extend(work)
        while self._queue or self._members or self._returning:
            self._put_back()
            self._scale()
            self._check_waiting()
            answered, going = self._answered(), leaving()
            for member in [member for member in self._members if member.reply in answered]:
                self._hear(member, going)
            for member in [member for member in self._members if self._is_overdue(member)]:
                if member.state == "working":
                    member.state = "mute"
                self._lose(member, EngineError(f"it did not answer for {time.monotonic() - member.called:.0f} s"))
            self._forget_ended()
            fetched = self._fetching()
            progress(self._progress()) if fetched.done else fetching(fetched)
        return self._decoded

    def _fetching(self) -> Fetched:
        """How much of the model is on the machines that fetch it, all together; done where none does."""
        on = {member.machine: member.fetched for member in self._members if member.state == "fetching"}
        there, of = (sum(getattr(each, name) for each in on.values()) for name in ("there", "of"))
        return Fetched(there == of or self._ever_started, there, of)

    def _progress(self) -> Progress:
        held = [(member, work) for member in self._members for work in member.holding.values()]
        sizes = [(member.sizes.get((work.unit.item, work.unit.sample)), work) for member, work in held]
        under_way = [(size, self._most(work.unit)) for size, work in sizes if size is not None]
        waiting = [work.size for size, work in sizes if size is None] + [work.size for work in self._queue]
        tokens = {member.name: member.tokens for member in self._members if member.process is not None}
        return replace(self._forecast.at(under_way, waiting), replicas=tokens)

    def _answered(self) -> set[Any]:
        """The calls that were answered, after a second at most."""
        if not self._members:
            wait(self._returning, POLL_SECONDS) if self._returning else time.sleep(POLL_SECONDS)
            return set()
        ready, _ = ray.wait([member.reply for member in self._members], timeout=POLL_SECONDS)
        return set(ready)

    def _scale(self) -> None:
        """Asks for as many replicas as there is work for."""
        if time.monotonic() < self._next_launch or (not self._members and self._gangs.go_first()):
            return
        resources = self._resources
        units = len(self._queue) + sum(len(member.holding) for member in self._members)
        each = min((member.at_once for member in self._members if member.at_once), default=resources.in_flight)
        enough = max(resources.replicas.min, min(resources.replicas.max, ceil(units / each)))
        members = [member for member in self._members if member.state != "closing"]
        while self._queue and len(members) < enough:
            members.append(self._launch())

    def _launch(self) -> _Member:
        asked, name = time.monotonic(), f"replica-{self._launched}"
        group = placement_group([self._demand], strategy="STRICT_PACK", name=f"{self._name}-{uuid.uuid4().hex[:8]}")
        actor = (
            ray.remote(Replica)
            .options(
                num_cpus=self._demand["CPU"],
                num_gpus=self._demand.get("GPU", 0),
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
            )
            .remote(self._spec, name)
        )
        member = _Member(name, group, actor, asked, asked, reply=actor.fetch.remote(), called=time.monotonic())
        self._members.append(member)
        self._launched += 1
        return member

    def _check_waiting(self) -> None:
        """Raises StepError when fewer replicas than needed came in time, and other steps do not hold what they lack."""
        waiting = [member for member in self._members if not self._has_place(member)]
        if waiting:
            release_abandoned()
        replicas, placed = self._resources.replicas.min, len(self._members) - len(waiting)
        late = [member for member in waiting if time.monotonic() - member.waits_since > self._resources.wait]
        if late and placed < replicas:
            if not will_fit(self._demand, replicas):
                settings = "resources.cpus, gpus or replicas.min"
                raise StepError(shortage(self._demand, replicas, self._resources.wait, settings))
            print(f"still waiting for {amounts(self._demand)}: other steps hold it", flush=True)
            for member in late:
                member.waits_since = time.monotonic()

    def _has_place(self, member: _Member) -> bool:
        """Whether a member was given its resources, which are paid from then on."""
        if member.place() and not member.paid:
            member.paid = True
            self._meter.take(self._devices, time.monotonic() - member.granted)
        return member.paid

    def _hear(self, member: _Member, going: set[str]) -> None:
        """Takes the answer of `member` and gives it something else to do."""
        try:
            answer = ray.get(member.reply)
        except (RayActorError, EngineError) as error:
            self._lose(member, error)
            return
        except StepError as error:
            raise StepError(_said(error)) from error
        if member.state == "closing":
            self._count_tokens(answer)
            member.closed = True
            self._release(member)
            if member.holding:
                self._take_back(list(member.holding.values()))
            return
        if member.state == "fetching":
            member.fetched = answer
            if answer.done:
                member.state = "starting"
            call = member.actor.start if answer.done else member.actor.fetch
            member.reply, member.called = call.remote(), time.monotonic()
            return
        if member.state == "starting":
            member.process, cache_tokens = answer
            member.state, member.at_once = "working", self._at_once(cache_tokens)
            self._ever_started = True
        else:
            self._acknowledge(member, answer)
        if member.machine in going:
            self._close(member)
            self._count("preempted", "its machine is about to go")
            return
        grant = self._grant(member)
        if grant or member.holding or self._returning:
            member.holding |= {(work.unit.item, work.unit.sample): work for work in grant}
            member.reply, member.called = member.actor.exchange.remote(grant), time.monotonic()
        else:
            self._close(member)

    def _close(self, member: _Member) -> None:
        """Tells a member to write what it has and to end."""
        member.state, member.reply, member.called = "closing", member.actor.close.remote(), time.monotonic()

    def _is_overdue(self, member: _Member) -> bool:
        """Whether a member should have answered: every second when it works, unless its event loop is held up."""
        silent = time.monotonic() - member.called
        if not member.machine or silent < SILENT_SECONDS:
            return False
        late = member.state == "working" and silent > self._resources.token_deadline + OVERDUE_SECONDS
        return late or gone(member.machine)

    def _acknowledge(self, member: _Member, report: Report) -> None:
        for unit in report.finished:
            del member.holding[unit]
        member.sizes = report.sizes
        self._forecast.finished(report.sizes[unit] for unit in report.finished)
        member.finished_lately = len(report.finished) + report.unwritten - member.unwritten
        member.unwritten = report.unwritten
        member.at_once = report.at_once
        self._done += len(report.finished)
        member.tokens += report.decoded.tokens
        self._count_tokens(report.decoded)
        if report.unreadable:
            self._take_back([member.holding.pop(unit) for unit in report.unreadable], report.damaged)

    def _count_tokens(self, decoded: Decoded) -> None:
        """Adds what was decoded and is on disk."""
        self._decoded += decoded
        self._meter.decoded(decoded.tokens)

    def _at_once(self, cache_tokens: int | None) -> int:
        """Units that a replica decodes at once, before it can tell: as if each became as long as it may."""
        most = self._resources.in_flight
        if cache_tokens is None or not self._queue:
            return most
        first = self._queue[0]
        return max(1, min(most, cache_tokens // first.longest(self._spec.trees[first.unit.tree], self._spec.forcing)))

    def _grant(self, member: _Member) -> list[Work]:
        """Units for `member`."""
        held, queued, members = len(member.holding) - member.unwritten, len(self._queue), len(self._members)
        count = share(member.at_once, member.finished_lately, held, queued, members)
        return [self._queue.popleft() for _ in range(count)]

    def _lose(self, member: _Member, error: Exception) -> None:
        """Gives the units of a dead member back and counts the loss. The pool grows back by itself."""
        held, counted = list(member.holding.values()), member.state == "closing"
        cause: Cause = "infrastructure"
        reason = _said(error)
        if _taken_away(member, error):
            cause, member.state, reason = "preempted", "gone", "its machine is gone"
        elif isinstance(error, EngineError) and not self._ever_started:
            raise StepError(f"engine: {reason}") from error
        self._release(member)
        if held:
            self._take_back(held)
        if not counted:
            self._count(cause, reason)

    def _count(self, cause: Cause, reason: str) -> None:
        """Counts the loss of a replica. Raises OutOfRetries when its budget is spent."""
        allowed = self._losses.count(cause)
        self._tell_losses(self._losses.by_cause(), f"{cause}: {reason}")
        print(f"a replica was lost ({self._losses.so_far(cause)} allowed): {reason}", flush=True)
        if not allowed:
            budget = f"resources.retries.{field_of(cause)} allows {self._losses.allowed.of(cause)}"
            raise OutOfRetries(
                cause, f"replicas were lost {self._losses.counts[cause]} times, and {budget}; the last time: {reason}"
            )
        if cause == "infrastructure":
            self._in_a_row = 1 if self._done > self._done_before else self._in_a_row + 1
            self._done_before = self._done
            self._next_launch = time.monotonic() + backoff(self._in_a_row)

    def _take_back(self, held: Sequence[Work], damaged: Sequence[str] = ()) -> None:
        """Has units put back once it is known what is on disk of them by now; `damaged` are files that are not."""
        self._returning.append(self._traces.submit(self._looked_up, held, damaged))
        self._put_back()

    def _looked_up(self, held: Sequence[Work], damaged: Sequence[str]) -> tuple[list[Work], list[int]]:
        """The units of which something is missing, with all that is on disk, and the tokens of each that is done."""
        for file in damaged:
            self._index.discard(file)
        self._index.refresh()
        again, done = list[Work](), list[int]()
        for work in held:
            unit = work.unit
            known = self._index.unit(unit.item, unit.sample)
            if any(True for _ in wanted(self._spec.trees[unit.tree], unit.room, known.extent)):
                again.append(Work(unit, tuple(known.rows), tuple(self._index.places(known.rows))))
            else:
                done.append(sum(row.length for row in known.rows))
        return again, done

    def _put_back(self) -> None:
        """Puts what has been looked up at the front of the queue."""
        known, _ = wait(self._returning, LOOKING_UP_SECONDS)
        for each in [each for each in self._returning if each in known]:
            self._returning.remove(each)
            again, done = each.result()
            self._done += len(done)
            self._forecast.finished(done)
            self._queue.extendleft(reversed(again))

    def _release(self, member: _Member) -> None:
        """Ends a member, whatever state it is in. That it is gone is seen to later: its machine may not answer."""
        self._members.remove(member)
        if member.state == "working" and not gone(member.machine):
            with suppress(RayActorError, EngineError, StepError, GetTimeoutError):  # then it is ended the hard way
                ray.get(member.actor.close.remote(), timeout=RELEASE_SECONDS)
                member.closed = True
        ray.kill(member.actor)
        self._has_place(member)
        remove_placement_group(member.group)
        self._ended.append(member)

    def _forget_ended(self) -> None:
        """Forgets members that are gone and have given everything back. They are paid until others can have it."""
        for member in list(self._ended):
            if member.paid and _is_removed(member.group):
                member.paid = False
                self._meter.give_back(self._devices)
            if _gave_back(member):
                self._ended.remove(member)


def _taken_away(member: _Member, error: Exception) -> bool:
    """Whether a member was lost with its machine, which may be on its way down where Ray knows of no other reason."""
    deadline = time.monotonic() + (GOING_DOWN_SECONDS if isinstance(error, ActorUnavailableError) else 0)
    while member.place():
        if gone(member.machine) or member.machine in leaving():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return False


def share(at_once: int, finished_lately: int, held: int, queued: int, members: int) -> int:
    """How many of the `queued` units a replica gets: what it lacks to be busy, and a reserve until it is heard again.

    The reserve shrinks with the queue, so that replicas finish together.
    """
    reserve = min(max(at_once, 2 * finished_lately), queued // (2 * members))
    return min(max(0, at_once + reserve - held), queued)


def _gave_back(member: _Member) -> bool:
    if not _is_removed(member.group):
        return False
    return member.state == "gone" or (_is_dead(member.actor) and _is_swept(member))


def _is_swept(member: _Member) -> bool:
    """Whether nothing is left of a member on its machine. What cannot be ended is said in the step's log."""
    if member.closed or not member.machine:
        return True
    if member.swept is None:
        there = NodeAffinitySchedulingStrategy(member.machine, soft=False)
        member.swept = _sweep.options(scheduling_strategy=there).remote(member.process)
    try:
        ray.get(member.swept, timeout=0)
    except GetTimeoutError:
        return gone(member.machine)
    except (RayError, EngineError) as error:
        print(_said(error), flush=True)
    return True


@ray.remote(num_cpus=0, max_retries=0)
def _sweep(process: int | None) -> list[int]:
    """Ends what a replica left on this machine, once its own process is gone."""
    if process is not None:
        wait_until_gone(process)
    return end_orphans()


def _is_removed(group: PlacementGroup) -> bool:
    return bool(placement_group_table(group)["state"] == "REMOVED")


def _is_dead(actor: Any) -> bool:
    """Whether calls to the actor fail, as they do once its process is gone."""
    try:
        ray.get(actor.exchange.remote([]), timeout=1)
    except RayActorError:
        return True
    except (GetTimeoutError, EngineError):
        return False
    return False


def _said(error: BaseException) -> str:
    """The last line of what an error says: Ray puts the remote traceback before it."""
    error = getattr(error, "cause", None) or error
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
