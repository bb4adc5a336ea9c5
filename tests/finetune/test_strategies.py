"""Gangs and strategies of all kinds against one process: the same losses and the same weights, over 15 steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor import config as inductor

from jobs.finetune.compiling import compile_layers
from orchestrator.job.errors import StepError
from tests.finetune.gang import config, train_in_processes

pytestmark = pytest.mark.processes

SAMPLES, STEPS = 60, 15

LORA = {"rank": 4, "alpha": 8.0, "targets": ["q_proj", "down_proj"]}


@dataclass(frozen=True)
class Run:
    losses: list[float]
    weights: dict[str, Tensor]


def run(folder: Path, workers: int, resources: dict[str, Any] | None = None, **fields: Any) -> Run:
    recipe = config(
        batch_size=4,
        resources={"workers": workers, "checkpoint_every": 100, "tokens_in_memory": 1000, **(resources or {})},
        **fields,
    )
    reports = train_in_processes(recipe, folder, samples=SAMPLES, workers=workers)
    assert len(reports) == STEPS
    return Run([report.loss for report in reports], torch.load(folder / "weights"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process, in float64, a whole batch at once."""
    finished = run(tmp_path_factory.mktemp("alone"), 1, precision="float64")
    assert finished.losses[-1] < finished.losses[0] - 1
    return finished


@pytest.mark.parametrize(
    ("workers", "resources"),
    [(2, {}), (4, {}), (4, {"shard_group": 2}), (1, {"tokens_in_memory": 1, "activation_checkpointing": "selective"})],
    ids=["two workers", "four workers", "two groups of two", "sample by sample, recomputed"],
)
def test_a_gang_computes_what_one_process_does(
    alone: Run, tmp_path: Path, workers: int, resources: dict[str, Any]
) -> None:
    gang = run(tmp_path, workers, resources, precision="float64")
    assert gang.losses == pytest.approx(alone.losses, abs=1e-9)
    assert gang.weights.keys() == alone.weights.keys()
    for name, weight in gang.weights.items():
        torch.testing.assert_close(weight, alone.weights[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("stage", [2, 3])
def test_zero_computes_what_one_process_does(alone: Run, tmp_path: Path, stage: int) -> None:
    zero = run(tmp_path, 2, {"deepspeed": {"stage": stage}}, strategy="deepspeed", precision="float32")
    # DeepSpeed computes in float32 at best, in which Adam makes whole steps of gradients that are almost zero.
    assert zero.losses == pytest.approx(alone.losses, abs=1e-5)
    assert zero.weights.keys() == alone.weights.keys()


def test_zero_trains_adapters_with_layers_recomputed_as_one_process_does(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "zero").mkdir()
    one = run(tmp_path / "one", 1, lora=LORA, precision="float32")
    full = {"deepspeed": {"stage": 3}, "activation_checkpointing": "full"}
    zero = run(tmp_path / "zero", 2, full, strategy="deepspeed", lora=LORA, precision="float32")
    assert one.losses[-1] < one.losses[0]
    assert zero.losses == pytest.approx(one.losses, abs=1e-5)
    assert zero.weights.keys() == one.weights.keys()


def test_compiled_layers_compute_what_others_do(alone: Run, tmp_path: Path) -> None:
    compiled = run(tmp_path, 1, {"compile": True}, precision="float64")
    # Its kernels are no more exact than float32 in places.
    assert compiled.losses == pytest.approx(alone.losses, abs=1e-6)


def test_compiling_without_a_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor.cpp, "cxx", ("/nowhere/g++",))
    with pytest.raises(StepError, match=r"^resources.compile: needs a C\+\+ compiler, and there is none [^\n]*$"):
        compile_layers(torch.nn.Module(), torch.device("cpu"))


def test_a_zero_run_continues_with_another_number_of_workers(tmp_path: Path) -> None:
    def train(folder: str, workers: int, **arguments: Any) -> list[float]:
        (tmp_path / folder).mkdir(exist_ok=True)
        recipe = config(strategy="deepspeed", batch_size=6)
        return [r.loss for r in train_in_processes(recipe, tmp_path / folder, samples=60, workers=workers, **arguments)]

    undisturbed = train("undisturbed", 1)
    train("grown", 1, interrupt_at=6)
    continued = train("grown", 2)
    assert continued
    assert continued == pytest.approx(undisturbed[-len(continued) :], abs=1e-5)
