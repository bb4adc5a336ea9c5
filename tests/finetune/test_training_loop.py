"""The loop in real gangs of processes, connected by gloo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.finetune.gang import config, train_in_processes

pytestmark = pytest.mark.seconds

SAMPLES = 60
STEPS = 10


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(folder / "weights")
    return loaded


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A run of two workers from start to end: its folder and its losses."""
    folder = tmp_path_factory.mktemp("undisturbed")
    reports = train_in_processes(config(), folder, samples=SAMPLES, workers=2)
    assert [report.step for report in reports] == list(range(1, STEPS + 1))
    return folder, [report.loss for report in reports]


def test_training_lowers_the_loss(undisturbed: tuple[Path, list[float]]) -> None:
    _, losses = undisturbed
    assert losses[0] > 5
    assert losses[-1] < losses[0] - 1


def test_the_export_is_the_trained_model(undisturbed: tuple[Path, list[float]]) -> None:
    folder, _ = undisturbed
    exported = AutoModelForCausalLM.from_pretrained(folder / "output")
    trained = AutoModelForCausalLM.from_config(exported.config).eval()
    trained.load_state_dict(weights(folder), strict=False)
    ids = torch.arange(64)[None]
    with torch.no_grad():
        assert torch.equal(exported(ids).logits, trained(ids).logits)


def test_no_checkpoint_is_written_of_the_last_step(undisturbed: tuple[Path, list[float]]) -> None:
    folder, _ = undisturbed
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000004", "step-00000008"]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_loss_does_not_depend_on_the_number_of_workers(
    undisturbed: tuple[Path, list[float]], tmp_path: Path, workers: int
) -> None:
    reports = train_in_processes(config(), tmp_path, samples=SAMPLES, workers=workers)
    assert [report.loss for report in reports] == pytest.approx(undisturbed[1], abs=1e-5)


def test_a_diverging_run_is_an_error_that_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(
        torch.multiprocessing.ProcessRaisedException, match="learning_rate: 1e\\+30 made training diverge"
    ):
        train_in_processes(config(learning_rate=1e30), tmp_path, samples=SAMPLES, workers=1)
