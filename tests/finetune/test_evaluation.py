"""Rows kept from training, and batches that cannot be learned from; with a strategy that only counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from jobs.finetune.batches import IGNORED, Batch
from jobs.finetune.checkpoint_files import CheckpointFolder
from jobs.finetune.config import Evaluation, FinetuneConfig
from jobs.finetune.evaluation import split
from jobs.finetune.loop import train
from jobs.finetune.measures import StepReport
from orchestrator.job.errors import StepError
from tests.finetune.gang import config
from tests.finetune.test_training_batches import PADDING, data

CPU = torch.device("cpu")


class Counting:
    """A strategy whose loss is 2 nats a token, but no number where `broken` is learned."""

    def __init__(self, broken: int | None = None):
        self.broken = broken
        self.trained: list[int] = []
        self.evaluated: list[int] = []

    def backward(self, batch: Batch, learned: int, *, last: bool) -> Tensor:
        self.trained += batch.samples
        mean = 2.0 * (batch.labels != IGNORED).sum() / learned
        return mean * float("nan") if self.broken in batch.samples else mean

    def update(self, rate: float) -> float:
        return 1.0

    def evaluate(self, batch: Batch) -> Tensor:
        self.evaluated += batch.samples
        return 2.0 * (batch.labels != IGNORED).sum()

    def state(self) -> dict[str, Any]:
        return {"model": {}, "optimizer": {"step": torch.zeros(())}}

    def load_state(self, state: dict[str, Any]) -> None:
        pass

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return iter(())


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(strategy: Counting, recipe: FinetuneConfig, folder: Path) -> list[StepReport]:
    reports: list[StepReport] = []
    samples = data([4, 6, 3, 9, 5, 7, 8, 2, 6, 5, 4, 7])
    checkpoints = CheckpointFolder(str(folder))
    train(recipe, strategy, samples, padding=PADDING, device=CPU, checkpoints=checkpoints, report=reports.append)
    return reports


def test_what_is_kept_from_training_is_evaluated_when_due_and_at_the_end(tmp_path: Path) -> None:
    strategy = Counting()
    recipe = config(epochs=2, batch_size=3, evaluation={"share": 0.25, "every": 4}, resources={"tokens_in_memory": 20})
    reports = trained(strategy, recipe, tmp_path)
    kept = set(range(12)) - set(strategy.trained)
    assert len(kept) == 3
    assert sorted(strategy.trained) == sorted(2 * list(set(range(12)) - kept))
    assert set(strategy.evaluated) == kept
    assert [report.step for report in reports if report.evaluation_loss is not None] == [4, 6]
    assert reports[-1].evaluation_loss == pytest.approx(2)
    assert "evaluation_loss" not in reports[0].metrics()
    assert "evaluation_loss" in reports[-1].metrics()


def test_the_same_rows_are_kept_by_the_same_seed() -> None:
    samples = data(list(range(2, 42)))
    first, again, other = (split(samples, Evaluation(share=0.1), seed) for seed in (0, 0, 1))
    assert first.held_out.numbers.tolist() == again.held_out.numbers.tolist()
    assert first.held_out.numbers.tolist() != other.held_out.numbers.tolist()
    with pytest.raises(StepError, match=r"evaluation\.share: 0\.9 of 1 samples leaves none to train on"):
        split(data([3]), Evaluation(share=0.9), 0)


def test_reports_say_where_in_the_data_a_step_was_and_what_was_padding(tmp_path: Path) -> None:
    recipe = config(epochs=2, batch_size=5, resources={"tokens_in_memory": 1000})
    reports = trained(Counting(), recipe, tmp_path)
    assert [report.rows for report in reports] == [5, 10, 12, 17, 22, 24]
    assert [report.epoch for report in reports][2::3] == [1.0, 2.0]
    assert all(report.loss == pytest.approx(2) for report in reports)
    assert all(0 <= report.padding < 1 for report in reports)
    assert max(report.padding for report in reports) > 0.1
    one_by_one = trained(Counting(), config(epochs=2, batch_size=5, resources={"tokens_in_memory": 1}), tmp_path / "1")
    assert {report.padding for report in one_by_one} == {0.0}


def test_the_batch_whose_loss_is_no_number_is_named_and_nothing_is_saved(tmp_path: Path) -> None:
    recipe = config(epochs=1, batch_size=4, resources={"tokens_in_memory": 1, "checkpoint_every": 1})
    strategy = Counting(broken=6)
    with pytest.raises(StepError, match=r"diverge at step \d .* on samples 7 of the data, counted from 1") as caught:
        trained(strategy, recipe, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(strategy.trained) % 4 == 0
    assert len(list(CheckpointFolder(str(tmp_path)).whole())) <= len(strategy.trained) // 4 - 1
