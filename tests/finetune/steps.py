"""A small ``finetune`` step on a Ray cluster of this machine."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import psutil
import ray
from ray.util import placement_group_table

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.run import run
from jobs.letters.config import LettersConfig
from jobs.letters.run import run as write_letters
from orchestrator.job.context import StepContext, StepInput
from tests.ray_cluster import CPUS


def write(folder: Path) -> StepInput:
    """Data to train on."""
    write_letters(LettersConfig(train=240, test=1), StepContext("experiment", "letters", "0", folder, folder))
    return StepInput("letters", "0", folder / "output")


def context(folder: Path, letters: StepInput) -> StepContext:
    return StepContext("experiment", "tiny", "0", folder, folder / "traces", {"letters": letters})


def config(**fields: object) -> FinetuneConfig:
    defaults = {
        "model": {"random": "qwen2", "layers": 2, "hidden_size": 64},
        "data": "${letters}",
        "batch_size": 8,
        "resources": {"workers": 2, "checkpoint_every": 5},
    }
    return FinetuneConfig.model_validate_json(json.dumps(defaults | fields))


# The executor gives each step a process of its own. Here they share one, which imports for seconds.
@ray.remote(num_cpus=0, max_retries=0)
def step_task(config: FinetuneConfig, context: StepContext) -> None:
    run(config, context)


def train(config: FinetuneConfig, context: StepContext) -> None:
    """Runs the step in a task, as the executor does, and sees that it gives back all it took."""
    try:
        ray.get(step_task.remote(config, context))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        deadline = time.monotonic() + 30
        while ray.available_resources().get("CPU") != CPUS or processes_of(context):
            assert time.monotonic() < deadline, "the gang is still there"
            time.sleep(0.2)
        assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}


def processes_of(context: StepContext) -> list[psutil.Process]:
    """The workers of a gang: they write the step's logs."""
    logs = str(context.folder / "logs")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(file.path.startswith(logs) for file in process.open_files()):
                found.append(process)
    return found


def losses(context: StepContext) -> list[tuple[int, float]]:
    lines = (context.folder / "tracked" / "finetune" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["step"], record["values"]["loss"]) for record in records]
