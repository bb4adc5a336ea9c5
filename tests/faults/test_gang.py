"""The gang on clusters whose nodes come and go: real raylets on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
import torch
import torch.distributed as dist
from ray.cluster_utils import Cluster
from ray.exceptions import WorkerCrashedError
from ray.util import placement_group, placement_group_table, remove_placement_group
from torch import Tensor

from jobs.finetune.assignment import Assignment
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.fsdp import Fsdp
from jobs.finetune.gang import _trainer, run_gang
from jobs.finetune.network import interface
from jobs.finetune.run import run
from jobs.finetune.worker import work as step_work
from jobs.letters.config import LettersConfig
from jobs.letters.run import run as write_letters
from orchestrator.failures import diagnose
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.retries import OutOfRetries
from orchestrator.job.usage import Held
from tests.nodes import IMPATIENT, announce, head_alone


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    with head_alone(IMPATIENT) as cluster:
        yield cluster


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """A head without CPUs, to which tests add nodes."""
    yield head
    for node in list(head.worker_nodes):
        head.remove_node(node)
    deadline = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 1 or {
        group["state"] for group in placement_group_table().values()
    } - {"REMOVED"}:
        assert time.monotonic() < deadline, "nodes or what was held of them are still there"
        time.sleep(0.1)


def config(**resources: object) -> FinetuneConfig:
    fields = {"model": {"random": "qwen2", "layers": 2, "hidden_size": 64}, "data": "${letters}", "batch_size": 4}
    return FinetuneConfig.model_validate_json(
        json.dumps(fields | {"resources": {"workers": 2, "wait": 60.0} | resources})
    )


@dataclass(frozen=True)
class Task:
    """Steps that each need all workers; what is done is in `folder`."""

    folder: Path
    steps: int

    def done(self) -> list[list[str]]:
        """The node of every worker, for each step done."""
        file = self.folder / "done.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def work(task: Task) -> None:
    for _ in range(len(task.done()), task.steps):
        nodes: list[str] = [""] * dist.get_world_size()
        dist.all_gather_object(nodes, ray.get_runtime_context().get_node_id())
        if dist.get_rank() == 0:
            with (task.folder / "done.jsonl").open("a") as file:
                file.write(json.dumps(nodes) + "\n")
        dist.barrier()
        time.sleep(0.02)


def reached(running: Future[None], condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, and fails when the gang has ended before."""
    while not condition():
        assert not running.done(), running.exception()
        time.sleep(0.05)


def places(settings: FinetuneConfig, folder: Path) -> list[int]:
    """How many workers come to each node that gets some: by the reservation that Ray Train makes, without processes."""
    workers = settings.resources.workers
    nobody = folder / "none"
    asked = _trainer(work, Task(folder, steps=0), settings, workers, "gang", folder / "records", nobody).scaling_config
    group = placement_group([asked.resources_per_worker] * asked.num_workers, strategy=asked.placement_strategy)
    try:
        assert group.wait(60)
        return sorted(Counter(placement_group_table(group)["bundles_to_node_id"].values()).values())
    finally:
        remove_placement_group(group)


def test_a_gang_is_packed_on_one_node_when_it_fits_there(cluster: Cluster, tmp_path: Path) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    assert places(config(), tmp_path) == [2]


def test_sixteen_workers_fill_two_nodes_of_eight(cluster: Cluster, tmp_path: Path) -> None:
    for _ in range(3):
        cluster.add_node(num_cpus=8, num_gpus=8)
    assert places(config(workers=16, gpus_per_worker=1), tmp_path) == [8, 8]


def test_a_gang_outlives_lost_nodes_replaced_or_not_within_its_retries(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    task = Task(tmp_path, steps=10**6)
    with ThreadPoolExecutor(1) as thread:
        settings = config(retries={"preempted": 2, "infrastructure": 0}, min_workers=1, wait=10.0)
        running = thread.submit(run_gang, work, task, settings, "gang", tmp_path / "records", tmp_path / "reservation")
        reached(running, lambda: len(task.done()) > 5)

        replacement = cluster.add_node(num_cpus=1)
        cluster.remove_node(nodes[1], allow_graceful=False)
        reached(running, lambda: len({node for workers in task.done() for node in workers}) == 3)

        cluster.remove_node(replacement, allow_graceful=False)
        reached(running, lambda: len(task.done()[-1]) == 1)

        cluster.remove_node(nodes[0], allow_graceful=False)
        with pytest.raises(OutOfRetries, match=r"^resources.retries.preempted: workers were lost 3 times, [^\n]*$"):
            running.result()

    sizes = [len(workers) for workers in task.done()]
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {1, 2}
    said = capsys.readouterr().out
    assert re.search(r"again \(preempted 1 of 2\) because worker \d (was lost|lost its connection)", said)
    assert "starting with 1 of 2 workers" in said


def test_a_gang_that_is_told_of_a_machine_that_goes_continues_elsewhere_from_the_very_step(
    cluster: Cluster, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    write_letters(LettersConfig(train=400, test=1), StepContext("e", "letters", "0", tmp_path, tmp_path))
    inputs = {"letters": StepInput("letters", "0", tmp_path / "output")}
    settings = config(checkpoint_every=10**6, retries={"preempted": 1, "infrastructure": 0})

    def losses(step: StepContext) -> list[tuple[int, float]]:
        file = step.folder / "tracked" / "finetune" / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(record["step"], record["values"]["loss"]) for record in map(json.loads, lines)]

    def context(name: str) -> StepContext:
        (tmp_path / name).mkdir()
        return StepContext("e", name, "0", tmp_path / name, tmp_path / "traces", inputs)

    told, undisturbed = context("told"), context("undisturbed")
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run, settings, told)
        reached(running, lambda: len(losses(told)) > 5)
        reservation = json.loads((told.folder / "gang" / "reservation.json").read_text())
        announce(cluster, next(node for node in nodes if node.node_id in reservation["machines"]))
        running.result(timeout=120)
    run(settings, undisturbed)

    lost = json.loads((told.folder / "losses.json").read_text())
    assert lost["counts"] == {"preempted": 1}
    assert "a checkpoint of the last step was saved" in lost["reason"]
    assert losses(told) == losses(undisturbed)
    weights = [(step.output / "model.safetensors").read_bytes() for step in (told, undisturbed)]
    assert weights[0] == weights[1]


def note_connection(task: Task) -> None:
    (task.folder / "connected").write_text(str(dist.is_initialized()))


def work_and_note_network(task: Task) -> None:
    work(task)
    told = [os.environ.get(name) for name in ("GLOO_SOCKET_IFNAME", "NCCL_NET", "NCCL_DEBUG")]
    (task.folder / f"network-{dist.get_rank()}").write_text(json.dumps(told))


def refuse(task: Task) -> None:
    raise StepError("model: 'someone/new' cannot be downloaded (404): check its name")


def test_before_the_workers_connect_the_first_does_what_takes_long_and_each_chooses_its_network(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2)
    task, places = Task(tmp_path, steps=1), (tmp_path / "records", tmp_path / "reservation")
    run_gang(work_and_note_network, task, config(), "gang", *places, before=note_connection)
    assert (tmp_path / "connected").read_text() == "False"
    assert len(task.done()) == 1
    chosen = [interface(ray.util.get_node_ip_address()), None, "INFO"]
    assert [json.loads((tmp_path / f"network-{rank}").read_text()) for rank in range(2)] == [chosen] * 2
    with pytest.raises(StepError, match="cannot be downloaded"):
        run_gang(work, task, config(), "gang", *places, before=refuse)


def work_with_too_little_memory(assignment: Assignment) -> None:
    """Worker 1's card is full in its first step; the other waits for it."""

    def full(*arguments: object, **named: object) -> Tensor:
        if dist.get_rank() == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has 1 GiB free.")
        return backward(*arguments, **named)

    backward = Fsdp.backward
    Fsdp.backward = full  # type: ignore[method-assign]
    step_work(assignment, torch.device("cpu"))


def test_a_gang_that_runs_out_of_memory_is_told_what_would_fit_and_not_started_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(num_cpus=2)
    write_letters(LettersConfig(train=16, test=1), StepContext("e", "letters", "0", tmp_path, tmp_path))
    inputs = {"letters": StepInput("letters", "0", tmp_path / "output")}
    (tmp_path / "step").mkdir()
    monkeypatch.setattr("jobs.finetune.run._work", work_with_too_little_memory)
    with pytest.raises(StepError) as told:
        run(config(), StepContext("e", "step", "0", tmp_path / "step", tmp_path / "traces", inputs))
    failure = diagnose(told.value)
    assert failure.cause == "configuration"
    assert re.fullmatch(
        r"resources: worker 1 ran out of memory: it had \S+ GB, took \S+ [GM]B at its peak when 2\.1 GB more were "
        r"asked for; the plan expects \S+ MB, in [^:]*: these would fit: .+",
        failure.message,
    )
    assert not (tmp_path / "step" / "losses.json").exists()


def coordinate(pid: Path, *arguments: Any) -> None:
    pid.write_text(str(os.getpid()))
    run_gang(*arguments)


@pytest.mark.parametrize("begun", [False, True], ids=["before it began", "at work"])
def test_what_a_gang_holds_whose_coordinator_was_killed_goes_to_the_next(
    cluster: Cluster, tmp_path: Path, begun: bool
) -> None:
    def placed() -> int:
        return sum(group["state"] == "CREATED" for group in placement_group_table().values())

    for _ in range(2):
        cluster.add_node(num_cpus=1)
    task, pid, reservation = Task(tmp_path, steps=500), tmp_path / "pid", tmp_path / "reservation"
    arguments = (work, task, config(wait=5), "gang", tmp_path / "records", reservation)
    coordinator = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(coordinate)
    killed = coordinator.remote(pid, *arguments)
    deadline = time.monotonic() + 60
    while not (len(task.done()) > 2 if begun else placed()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    with pytest.raises(WorkerCrashedError):
        ray.get(killed)
    assert reservation.exists() == begun
    ray.get(coordinator.remote(pid, *arguments), timeout=120)
    assert [len(set(nodes)) for nodes in task.done()] == [2] * task.steps


def test_a_gang_that_waits_for_its_machines_holds_nothing_until_it_has_them(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    task, told = Task(tmp_path, steps=200), [Held(0.0, 0.0, 0.0)]
    with ThreadPoolExecutor(1) as thread:
        began = time.monotonic()
        running = thread.submit(
            run_gang,
            work,
            task,
            config(),
            "gang",
            tmp_path / "records",
            tmp_path / "reservation",
            hold=told.append,
        )
        reached(running, lambda: len(told) > 8)
        assert {held.device_seconds for held in told} == {0.0}
        waited = time.monotonic() - began  # the gang may have the machine before `add_node` returns
        cluster.add_node(num_cpus=1)
        reached(running, lambda: told[-1].devices == 2)
        running.result(timeout=120)
        whole = time.monotonic() - began
    assert told[-1].devices == 0
    # From the moment it had them, not from that at which its workers began to work.
    assert next(held for held in told if held.devices).device_seconds > 0
    assert 2 * 0.02 * task.steps < told[-1].device_seconds <= 2 * (whole - waited)
