"""Scorers with resources of their own: Ray actors, placed apart from the replicas of the model, which all ask them.

A model that scores and one that decodes rarely want the same number of copies, nor the same cards. So
``resources.scorer.replicas`` says how many of these there are; each is a placement group of what one of them takes, is
there before the first replica is asked for, and is paid for until it has given that back. A trace is put to whichever
has the fewest to score. What a scorer fails with is what the replica that asked fails with: its units go back to the
queue, and it counts against ``resources.retries`` as if it had scored by itself. One whose engine failed loads anew
when it is asked next; one whose process died is started again by Ray, and what it was asked is asked again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jobs.cluster_state import shortage
from jobs.evaluate.decode.leftovers import end_orphans, mark, wait_for_memory
from jobs.evaluate.decode.member import RELEASE_SECONDS, said
from jobs.evaluate.decode.replica import ReplicaSpec
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.scorers.protocol import Scorer, Standing, StepScore
from jobs.gang_scheduling import WaitingGangs, will_fit
from orchestrator.job.errors import StepError
from orchestrator.job.groups import remove_groups
from orchestrator.job.usage import Meter

RESTARTS = 3
"""Of a scorer's process, by Ray."""

_POLL_SECONDS = 1.0

Start = Callable[[], Awaitable[Scorer]]


class ScorerHost:
    """Runs as a Ray actor; everything in it happens on one event loop.

    It loads the scorer when it is asked first, which may be after Ray has started it again.
    """

    def __init__(self, start: Start, name: str, redirect_output: Callable[[str], None] | None, on_gpus: bool):
        if redirect_output is not None:
            redirect_output(name)
        self._start = start
        self._on_gpus = on_gpus
        self._scorer: Scorer | None = None
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Has it ready. Raises EngineError."""
        await self._loaded()

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        scorer = await self._loaded()
        try:
            return await scorer.score(standing)
        except EngineError:
            if self._scorer is scorer:
                self._scorer = None
                await scorer.close()
            raise

    async def close(self) -> None:
        """Ends its engine."""
        if self._scorer is not None:
            await self._scorer.close()

    async def _loaded(self) -> Scorer:
        async with self._loading:
            if self._scorer is None:
                await asyncio.to_thread(end_orphans)
                if self._on_gpus:
                    await asyncio.to_thread(wait_for_memory)
                mark()
                self._scorer = await self._start()
            return self._scorer


@dataclass
class AskedScorer:
    """The scorer of a replica: hosts elsewhere."""

    hosts: Sequence[Any]
    asked: list[int] = field(init=False)
    """How many traces each has to score."""

    def __post_init__(self) -> None:
        self.asked = [0] * len(self.hosts)

    async def score(self, standing: Standing) -> StepScore:
        """See :meth:`jobs.evaluate.scorers.protocol.Scorer.score`."""
        number = min(range(len(self.hosts)), key=self.asked.__getitem__)
        self.asked[number] += 1
        try:
            scored: StepScore = await self.hosts[number].score.remote(standing)
        except EngineError as error:
            raise EngineError(said(error)) from None  # which has the traceback of the other process for its text
        except RayActorError as error:
            raise EngineError(f"a scorer was lost: {said(error)}") from error
        finally:
            self.asked[number] -= 1
        return scored

    async def close(self) -> None:
        """They are not its own."""


async def ask(hosts: Sequence[Any]) -> AskedScorer:
    """What a replica starts in the place of a scorer."""
    return AskedScorer(hosts)


@contextmanager
def placed(
    spec: ReplicaSpec,
    replicas: int,
    demand: dict[str, float],
    name: str,
    wait: float,
    meter: Meter,
    devices: float,
    holding: Callable[[], None] = lambda: None,
) -> Iterator[ReplicaSpec]:
    """`spec` with its scorer in `replicas` hosts, each of which holds `demand`; as it is where that is 0.

    `name` is what their groups' names begin with, `wait` the seconds within which they must be placed, and `meter`
    counts `devices` for each; `holding` is called now and then while they load. Raises StepError when they cannot be
    placed, or the scorer cannot be loaded. Leaving it gives everything back.
    """
    if not replicas:
        yield spec
        return
    assert spec.scorer is not None, "a sweep without a scorer has no replicas of one"
    remove_groups(name)
    gangs = WaitingGangs()
    while gangs.go_first():
        time.sleep(_POLL_SECONDS)
    groups = [placement_group([demand], name=f"{name}-{uuid.uuid4().hex[:8]}") for _ in range(replicas)]
    hosts: list[Any] = []
    paid = 0
    try:
        _wait_for(groups, demand, wait)
        paid = len(groups)
        meter.take(paid * devices)
        hosts += [_host(spec, group, demand, f"scorer-{number}") for number, group in enumerate(groups)]
        _load(hosts, holding)
        yield replace(spec, scorer=partial(ask, tuple(hosts)))
    finally:
        for host in hosts:
            with suppress(RayError, GetTimeoutError):  # it is ended in any case
                ray.get(host.close.remote(), timeout=RELEASE_SECONDS)
            ray.kill(host)
        for group in groups:
            remove_placement_group(group)
        _wait_until_removed(groups, demand)
        meter.give_back(paid * devices)


def _host(spec: ReplicaSpec, group: Any, demand: dict[str, float], name: str) -> Any:
    return (
        ray.remote(ScorerHost)
        .options(
            num_cpus=demand["CPU"],
            num_gpus=demand.get("GPU", 0),
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
        )
        .remote(spec.scorer, name, spec.redirect_output, bool(demand.get("GPU")))
    )


def _load(hosts: Sequence[Any], holding: Callable[[], None]) -> None:
    """Raises StepError where the scorer cannot be loaded."""
    loading = [host.load.remote() for host in hosts]
    try:
        while loading:
            done, loading = ray.wait(loading, num_returns=len(loading), timeout=_POLL_SECONDS)
            ray.get(done)
            holding()
    except (EngineError, RayActorError) as error:
        raise StepError(f"search.scorer: {said(error)}") from error


def _state(group: Any) -> str:
    return str(placement_group_table(group)["state"])


def _wait_for(groups: Sequence[Any], demand: dict[str, float], wait: float) -> None:
    """Raises StepError where they are not placed in time, and not for want of what other steps will give back."""
    since = time.monotonic()
    while waiting := [group for group in groups if _state(group) != "CREATED"]:
        if time.monotonic() - since > wait:
            if not will_fit(demand, len(groups)):
                settings = "resources.scorer.cpus, gpus or replicas"
                raise StepError(shortage(demand, len(groups), wait, settings))
            print(f"still waiting for {len(waiting)} scorers: other steps hold what they take", flush=True)
            since = time.monotonic()
        time.sleep(0.2)


def _wait_until_removed(groups: Sequence[Any], demand: dict[str, float]) -> None:
    deadline = time.monotonic() + RELEASE_SECONDS
    while any(_state(group) != "REMOVED" for group in groups):
        if time.monotonic() > deadline:
            raise EngineError(f"a scorer did not release {demand} within {RELEASE_SECONDS:.0f} s")
        time.sleep(0.05)
