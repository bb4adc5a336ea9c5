"""The same losses as TRL's SFTTrainer. In the environment that has it: ``trl/bin/pytest benchmarks``."""

from __future__ import annotations

from finetune import Workload, compare


def test_the_losses_are_those_of_trl() -> None:
    lengths = tuple(range(40, 40 + 16 * 6))
    figures = compare(Workload("equal", 1, 64, lengths, 16, 4, 600, checkpointing=False), threads=1)
    assert figures["steps"] == 6
    assert figures["largest_loss_difference"] < 1e-3
