"""Two whole experiments on one cluster of several raylets, each of which wants all of it: they take turns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from tests.nodes import head_alone
from tests.orchestrator.workplace import Workplace

MACHINES = 2

TEXT = """
name: {name}
steps:
  letters:
    job: letters
    train: 64
    test: 48
  gang:
    job: finetune
    model: {{random: qwen2, layers: 1, hidden_size: 64}}
    data: ${{letters}}
    batch_size: 16
    resources: {{workers: 2, wait: 2}}
  sweep:
    job: evaluate
    model: ${{gang}}
    tasks: ["${{letters}}"]
    budgets: [8, 16]
    max_answer_tokens: 8
    resources: {{replicas: {{min: 2, max: 2}}, in_flight: 4, wait: 2}}
"""
"""Gang and sweep want a CPU of either machine, and would give up after two seconds if nobody held them."""


@dataclass(frozen=True)
class Moment:
    """What was held of the cluster at one time."""

    gangs: int
    """That had all that they asked for."""
    replicas: int
    torn: int
    """Gangs that had a part of it."""
    steps: frozenset[str]
    """Of either experiment, that were said to run before and after."""

    @property
    def held(self) -> int:
        return self.gangs + self.replicas + self.torn


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with head_alone() as cluster:
        for _ in range(MACHINES):
            cluster.add_node(num_cpus=1)
        yield cluster


def running(experiments: list[Workplace]) -> frozenset[str]:
    """The steps that run, as their statuses have it."""
    found = set()
    for experiment in experiments:
        for file in experiment.folder.glob("runs/*/status.json"):
            if json.loads(file.read_text())["state"] == "running":
                found.add(f"{experiment.folder.name}/{file.parent.name.partition('-')[0]}")
    return frozenset(found)


def moment(experiments: list[Workplace]) -> Moment:
    before = running(experiments)
    gangs = replicas = torn = 0
    for group in placement_group_table().values():
        placed = sum(map(bool, group["bundles_to_node_id"].values())) if group["state"] == "CREATED" else 0
        whole = placed == len(group["bundles"])
        gangs += whole and placed == 2
        replicas += whole and placed == 1
        torn += 0 < placed < len(group["bundles"])
    return Moment(gangs, replicas, torn, before | running(experiments))


def test_two_experiments_that_each_want_the_whole_cluster_both_finish(cluster: Cluster, tmp_path: Path) -> None:
    experiments = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        experiments.append(Workplace(tmp_path / name))
        experiments[-1].environment["RAY_ADDRESS"] = cluster.address
        experiments[-1].file.write_text(TEXT.format(name=name))
    drivers = [experiment.start("run", "words.yaml") for experiment in experiments]
    moments: list[Moment] = []
    try:
        while any(driver.poll() is None for driver in drivers):
            moments.append(moment(experiments))
            time.sleep(0.1)
    finally:
        for driver in drivers:
            driver.kill()
    said = [driver.communicate()[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert max(each.gangs for each in moments) == 1
    assert max(each.replicas for each in moments) == MACHINES
    assert not any(each.torn or (each.gangs and each.replicas) for each in moments)
    assert not [each for each in moments if each.held and not any("letters" not in step for step in each.steps)]
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != MACHINES:
        assert time.monotonic() < deadline, "something is still held"
        time.sleep(0.1)
