"""Runs that were killed and go on, with as many workers or others: real gangs of processes, connected by gloo."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch

from tests.finetune.gang import config, train_in_processes

pytestmark = pytest.mark.processes

SAMPLES = 48
STEPS = 8
EVERY = 3

KINDS: dict[str, dict[str, object]] = {
    "fsdp": {"precision": "float64"},
    "fsdp, adapters with dropout": {"precision": "float64", "lora": {"rank": 4, "dropout": 0.2}},
    "deepspeed": {"precision": "float32", "strategy": "deepspeed"},
}
"""In the widest numbers that the strategy computes in; with what draws random numbers in every step."""


def train(
    folder: Path, kind: str, workers: int, killed_at: int | None = None, announced_in: int | None = None
) -> list[float]:
    """The losses of the steps done in this call."""
    folder.mkdir(exist_ok=True)
    resources = {"checkpoint_every": EVERY, "tokens_in_memory": 400}
    recipe = config(batch_size=6, resources=resources, **KINDS[kind])
    reports = train_in_processes(
        recipe, folder, samples=SAMPLES, workers=workers, interrupt_at=killed_at, announced_in=announced_in
    )
    assert [report.step for report in reports] == list(range(reports[0].step, (killed_at or announced_in or STEPS) + 1))
    return [report.loss for report in reports]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(folder / "weights")
    return loaded


def distance(one: Path, other: Path) -> float:
    """The largest difference between two trained models."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run of two workers is undisturbed, and others were killed.

    Their first checkpoint is there: the second, which was due, waits for it.
    """
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "undisturbed", "fsdp", workers=2)
    for workers in (1, 2):
        train(folder / f"killed {workers}", "fsdp", workers, killed_at=2 * EVERY + 1)
    return folder


@pytest.mark.parametrize("kind", ["fsdp, adapters with dropout", "deepspeed"])
def test_a_run_killed_at_any_step_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    killed_at = random.randint(1, STEPS - 1)
    print(f"killed after step {killed_at}")
    undisturbed = train(tmp_path / "undisturbed", kind, workers=2)
    train(tmp_path / "killed", kind, workers=2, killed_at=killed_at)
    continued = train(tmp_path / "killed", kind, workers=2)
    assert STEPS - len(continued) in range(0, killed_at + 1, EVERY)
    assert continued == undisturbed[-len(continued) :]
    assert distance(tmp_path / "killed", tmp_path / "undisturbed") == 0


def test_all_stop_after_the_step_in_which_one_is_told_that_its_machine_goes(runs: Path, tmp_path: Path) -> None:
    """No checkpoint is due then: it is made for that."""
    train(tmp_path / "told", "fsdp", workers=2, announced_in=EVERY + 1)
    continued = train(tmp_path / "told", "fsdp", workers=2)
    assert len(continued) == STEPS - EVERY - 1
    assert distance(tmp_path / "told", runs / "undisturbed") == 0


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
def test_another_number_of_workers_continues_within_rounding(
    runs: Path, tmp_path: Path, before: int, after: int
) -> None:
    shutil.copytree(runs / f"killed {before}", tmp_path / "run")
    assert len(train(tmp_path / "run", "fsdp", after)) < STEPS
    assert distance(tmp_path / "run", runs / "undisturbed") < 1e-9
