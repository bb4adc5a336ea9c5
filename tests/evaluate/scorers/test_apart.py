"""Scorers apart, on a real Ray cluster of this machine: what they hold, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.catalogue import CPU, machine
from jobs.evaluate.decode.replica import ReplicaSpec
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.scorers.apart import placed
from jobs.evaluate.scorers.protocol import Standing, StepScore
from orchestrator.job.errors import StepError
from orchestrator.job.usage import Meter

pytestmark = pytest.mark.usefixtures("nothing_stays")

ONE = {"CPU": 1.0}


class Signing:
    """Scores with the number of its process. Fails at a step of one token 13, and a count of its loads is in a file."""

    def __init__(self, folder: Path):
        with (folder / "loads").open("a") as file:
            file.write(f"{os.getpid()}\n")

    async def score(self, standing: Standing) -> StepScore:
        if standing.steps == ((13,),):
            raise EngineError("vllm failed while scoring: the card is gone")
        await asyncio.sleep(0.2)
        return StepScore(float(os.getpid()), len(standing.steps))

    async def close(self) -> None:
        """Holds nothing."""


async def start(folder: Path) -> Signing:
    return Signing(folder)


async def vain() -> Signing:
    raise EngineError("vllm cannot load no-such-model: it is not there")


def spec(start: Any) -> ReplicaSpec:
    nothing: Any = None
    return ReplicaSpec(nothing, (), nothing, nothing, 0, nothing, 8, scorer=start)


@ray.remote(num_cpus=0)
def replica(scorer: Any, steps: list[tuple[int, ...]]) -> list[StepScore | str]:
    """What a replica of the model does with its scorer: it asks about many traces at once."""

    async def work() -> list[StepScore | str]:
        asked = await scorer()

        async def score(step: tuple[int, ...]) -> StepScore | str:
            try:
                found: StepScore = await asked.score(Standing("u", (step,), None, None))
            except EngineError as error:
                return str(error)
            return found

        found = await asyncio.gather(*map(score, steps))
        await asked.close()
        return list(found)

    return asyncio.run(work())


def test_they_share_what_replicas_ask_are_paid_for_and_outlive_a_failure_and_a_kill(tmp_path: Path) -> None:
    now = [0.0]
    meter = Meter(machine(CPU), clock=lambda: now[0])
    steps = [(number,) for number in range(6)]
    with placed(spec(partial(start, tmp_path)), 2, ONE, "step-scorers", 60, meter, 1.0) as given:
        assert given.scorer is not None
        assert ray.available_resources().get("CPU", 0) == 0, "two of one core each"
        now[0] = 10.0
        found = ray.get(replica.remote(given.scorer, steps))
        processes = {each.value for each in found}
        assert len(processes) == 2
        assert [each.read for each in found] == [1] * 6

        (failed, scored) = ray.get(replica.remote(given.scorer, [(13,), (1,)]))
        assert failed == "vllm failed while scoring: the card is gone"
        assert scored.value in processes
        assert len(ray.get(replica.remote(given.scorer, steps))) == 6
        assert len((tmp_path / "loads").read_text().split()) == 3, "the one that failed loaded anew, in its process"

        under_way = replica.remote(given.scorer, steps * 4)
        time.sleep(0.1)
        os.kill(int(min(processes)), signal.SIGKILL)
        again = ray.get(under_way)
        assert all(isinstance(each, StepScore) for each in again), "what it was asked is asked again"
        assert len({each.value for each in again} - processes) == 1
    assert meter.held.devices == 0
    assert meter.held.device_seconds == pytest.approx(20.0)


def test_what_cannot_be_loaded_or_placed_is_one_line(tmp_path: Path) -> None:
    meter = Meter(machine(CPU))
    with (
        pytest.raises(StepError, match=r"^search\.scorer: vllm cannot load no-such-model: it is not there$"),
        placed(spec(vain), 1, ONE, "step-scorers", 60, meter, 1.0),
    ):
        raise AssertionError("not loaded")
    with (
        pytest.raises(StepError, match=r"2 x \(64 CPU\), .*resources\.scorer\.cpus, gpus or replicas") as raised,
        placed(spec(partial(start, tmp_path)), 2, {"CPU": 64.0}, "step-scorers", 1, meter, 64.0),
    ):
        raise AssertionError("not placed")
    assert "\n" not in str(raised.value)
    assert meter.held.devices == 0


def test_a_scorer_within_replicas_takes_nothing(tmp_path: Path) -> None:
    given = spec(vain)
    with placed(given, 0, ONE, "step-scorers", 1, Meter(machine(CPU)), 1.0) as same:
        assert same is given
