"""Many units on many replicas: who decodes what, who replaces whom, and that everything is given back in the end.

The driver hands out units, a few more than a replica decodes at once, so that none waits for the driver; which are
whose is known here only. When a replica dies, its units go back to the front of the queue with whatever it had written
of them. One whose machine was announced to go is closed before that, and its units go back complete. Replicas are as
many as there is work for, between the two numbers of the config: more are asked of the cluster as the queue grows, and
each is released as soon as there is nothing left for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from math import ceil, inf
from typing import Any

import ray
from ray.exceptions import RayActorError

from cluster.catalogue import CPU, machine
from jobs.cluster_state import amounts, leaving, shortage
from jobs.evaluate.decode.forecast import Forecast, Progress
from jobs.evaluate.decode.member import RELEASE_SECONDS, Member, launch, said
from jobs.evaluate.decode.replica import Decoded, Fetched, ReplicaSpec, Report, Work
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.sweep.grown import is_whole
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.traces.files import Index
from jobs.gang_scheduling import WaitingGangs, will_fit
from orchestrator.job.errors import StepError
from orchestrator.job.groups import remove_groups
from orchestrator.job.retries import Cause, Losses, OutOfRetries, field_of
from orchestrator.job.usage import Meter

POLL_SECONDS = 1.0
LOOKING_UP_SECONDS = 0.05
"""That the loop waits for what is on disk of units that were given back. Of a small folder that is told by then."""


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
    begun: bool = False,
) -> Decoded:
    """Decodes all of `work`, in its order as far as replicas are free. Returns what was decoded.

    `demand` is what one replica holds, `name` a word for this step that no other live step has. `progress` is told how
    far it is by `forecast`, which knows the units that were done before, and `most`, the tokens that a unit may come
    to; while no replica has the model yet, `fetching` is told instead. `lost` takes how many replicas were lost by
    cause and why the last. `meter` counts `devices` for each replica, from when it is given its resources until it has
    given them back, and the tokens. A step that has `begun`, and holds something besides, lets no gang go first: it
    may wait for just that. Raises StepError when the cluster has not the resources or the model cannot be loaded, and
    OutOfRetries when replicas are lost more often than `resources` allow.
    """
    with _Pool(spec, index, resources, demand, name, lost, meter, devices, forecast, most, begun) as pool:
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
        begun: bool,
    ):
        self._begun = begun
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
        self._members: list[Member] = []
        self._launched = 0
        self._decoded = Decoded()
        self._tell_losses = lost
        self._losses = Losses(resources.retries)
        self._next_launch = 0.0
        """In monotonic seconds: after a loss it waits, the longer the more were lost before a unit was done."""
        self._gangs = WaitingGangs()
        self._ended: list[Member] = []
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
            for member in [each for each in self._members if each.is_overdue(self._resources.token_deadline)]:
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
        if time.monotonic() < self._next_launch:
            return
        if not (self._members or self._begun) and self._gangs.go_first():
            return
        resources = self._resources
        units = len(self._queue) + sum(len(member.holding) for member in self._members)
        each = min((member.at_once for member in self._members if member.at_once), default=resources.in_flight)
        enough = max(resources.replicas.min, min(resources.replicas.max, ceil(units / each)))
        members = [member for member in self._members if member.state != "closing"]
        while self._queue and len(members) < enough:
            members.append(launch(self._spec, self._demand, self._name, self._launched))
            self._members.append(members[-1])
            self._launched += 1

    def _check_waiting(self) -> None:
        """Raises StepError when fewer replicas than needed came in time, and other steps do not hold what they lack."""
        waiting = [member for member in self._members if not self._has_place(member)]
        replicas, placed = self._resources.replicas.min, len(self._members) - len(waiting)
        late = [member for member in waiting if time.monotonic() - member.waits_since > self._resources.wait]
        if late and placed < replicas:
            if not will_fit(self._demand, replicas):
                settings = "resources.cpus, gpus or replicas.min"
                raise StepError(shortage(self._demand, replicas, self._resources.wait, settings))
            print(f"still waiting for {amounts(self._demand)}: other steps hold it", flush=True)
            for member in late:
                member.waits_since = time.monotonic()

    def _has_place(self, member: Member) -> bool:
        """Whether a member was given its resources, which are paid from then on."""
        if member.place() and not member.paid:
            member.paid = True
            self._meter.take(self._devices, time.monotonic() - member.granted)
        return member.paid

    def _hear(self, member: Member, going: set[str]) -> None:
        """Takes the answer of `member` and gives it something else to do."""
        try:
            answer = ray.get(member.reply)
        except (RayActorError, EngineError) as error:
            self._lose(member, error)
            return
        except StepError as error:
            raise StepError(said(error)) from error
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
            member.call("start" if answer.done else "fetch")
            return
        if member.state == "starting":
            member.process, cache_tokens = answer
            member.state, member.at_once = "working", self._at_once(cache_tokens)
            self._ever_started = True
        else:
            self._acknowledge(member, answer)
        if member.machine in going:
            member.close()
            self._count("preempted", "its machine is about to go")
            return
        grant = self._grant(member)
        if grant or member.holding or self._returning:
            member.holding |= {(work.unit.item, work.unit.sample): work for work in grant}
            member.call("exchange", grant)
        else:
            member.close()

    def _acknowledge(self, member: Member, report: Report) -> None:
        for unit in report.finished:
            del member.holding[unit]
        member.sizes = report.sizes
        self._finish([report.sizes[unit] for unit in report.finished])
        member.finished_lately = len(report.finished) + report.unwritten - member.unwritten
        member.unwritten = report.unwritten
        member.at_once = report.at_once
        member.tokens += report.decoded.tokens
        self._count_tokens(report.decoded)
        if report.unreadable:
            self._take_back([member.holding.pop(unit) for unit in report.unreadable], report.damaged)

    def _finish(self, sizes: Sequence[int]) -> None:
        """Takes note of units that are done, and of how many tokens each has."""
        self._forecast.finished(sizes)
        if sizes:
            self._losses.progressed()

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

    def _grant(self, member: Member) -> list[Work]:
        """Units for `member`."""
        held, queued, members = len(member.holding) - member.unwritten, len(self._queue), len(self._members)
        count = share(member.at_once, member.finished_lately, held, queued, members)
        return [self._queue.popleft() for _ in range(count)]

    def _lose(self, member: Member, error: Exception) -> None:
        """Gives the units of a dead member back and counts the loss. The pool grows back by itself."""
        held, counted = list(member.holding.values()), member.state == "closing"
        cause: Cause = "infrastructure"
        reason = said(error)
        if member.was_taken_away(error):
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
            self._next_launch = time.monotonic() + self._losses.delay(cause)

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
            if is_whole(self._spec.trees[unit.tree], unit.room, known.extent):
                done.append(sum(row.length for row in known.rows))
            else:
                again.append(Work(unit, tuple(known.rows), tuple(self._index.places(known.rows))))
        return again, done

    def _put_back(self) -> None:
        """Puts what has been looked up at the front of the queue."""
        known, _ = wait(self._returning, LOOKING_UP_SECONDS)
        for each in [each for each in self._returning if each in known]:
            self._returning.remove(each)
            again, done = each.result()
            self._finish(done)
            self._queue.extendleft(reversed(again))

    def _release(self, member: Member) -> None:
        """Ends a member, whatever state it is in. That it is gone is seen to later: its machine may not answer."""
        self._members.remove(member)
        member.end()
        self._has_place(member)
        member.release()
        self._ended.append(member)

    def _forget_ended(self) -> None:
        """Forgets members that are gone and have given everything back. They are paid until others can have it."""
        for member in list(self._ended):
            if member.paid and member.is_released():
                member.paid = False
                self._meter.give_back(self._devices)
            if member.gave_back():
                self._ended.remove(member)


def share(at_once: int, finished_lately: int, held: int, queued: int, members: int) -> int:
    """How many of the `queued` units a replica gets: what it lacks to be busy, and a reserve until it is heard again.

    The reserve shrinks with the queue, so that replicas finish together.
    """
    reserve = min(max(at_once, 2 * finished_lately), queued // (2 * members))
    return min(max(0, at_once + reserve - held), queued)
