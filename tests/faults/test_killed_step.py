"""A ``finetune`` step whose own process is killed, and that is run again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import ray

from tests.finetune.steps import config, context, losses, processes_of, step_task, train, write
from tests.ray_cluster import ray_cluster


def test_a_killed_step_continues_when_it_is_run_again(tmp_path: Path) -> None:
    letters = write(tmp_path / "letters")
    undisturbed, disturbed = context(tmp_path / "undisturbed", letters), context(tmp_path / "disturbed", letters)
    with ray_cluster():
        train(config(), undisturbed)
        task = step_task.remote(config(), disturbed)
        while not list((disturbed.folder / "checkpoints").glob("step-*/complete.json")):
            time.sleep(0.05)
        ray.cancel(task, force=True)
        with pytest.raises(ray.exceptions.RayError):
            ray.get(task)
        while processes_of(disturbed):
            time.sleep(0.1)
        first = json.loads((disturbed.folder / "progress.json").read_text())["done"]
        assert first < 30

        train(config(), disturbed)

    assert losses(disturbed) == losses(undisturbed)
