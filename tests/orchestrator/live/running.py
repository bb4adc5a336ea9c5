"""An experiment that runs, as far as its store tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.live.snapshot import Watch
from orchestrator.plan import plan
from orchestrator.store.leases import Lease
from orchestrator.store.step_folders import Store

HOSTILE = "<script>window.broken = 1</script>"


@contextmanager
def running(folder: Path) -> Iterator[Watch]:
    """One whose training run is under way, in its second attempt, and has done 30 steps."""
    content = {
        "name": f"live {HOSTILE}",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "max_cost": 5.0,
        "steps": {
            "letters": {"job": "letters", "train": 100, "test": 5},
            "model": {
                "job": "finetune",
                "model": {"random": "qwen2", "layers": 1, "hidden_size": 64},
                "data": "${letters}",
            },
        },
    }
    path = folder / "live.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    experiment, store = load(path), Store(folder / "runs")
    letters, model = plan(experiment, store)
    letters.folder.create(letters.identity)
    letters.folder.mark_done()
    model.folder.create(model.identity)
    model.folder.write_status(
        state="running", started=time.time() - 60, restarts={"preempted": 1}, reason=f"preempted: {HOSTILE}"
    )
    context = model.context(experiment, store)
    context.progress(30, 120, "steps")
    train(context, range(1, 31))
    model.folder.acquire(Lease.by_this_process("run"))
    try:
        yield Watch(experiment, store)
    finally:
        model.folder.release("run")


def train(context: StepContext, steps: range) -> None:
    """Tracks so many steps as training does."""
    run = context.track("finetune", {}, group="training")
    for step in steps:
        values = {"loss": 4.0 / step, "tokens_per_second": 1234.0}
        run.metrics(values | ({"evaluation_loss": 5.0 / step} if step % 10 == 0 else {}), step)
