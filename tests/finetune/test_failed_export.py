"""What was learned outlives a result that cannot be written: a gang of processes, as torchrun starts them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from jobs.finetune import worker
from jobs.finetune.assignment import assign
from jobs.finetune.prepare import prepare
from jobs.finetune.worker import work
from jobs.letters.config import LettersConfig
from jobs.letters.run import run as write_letters
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from tests.finetune.gang import config, processes

pytestmark = pytest.mark.processes

WORKERS = 2


def _context(folder: Path) -> StepContext:
    inputs = {"letters": StepInput("letters", "0", folder / "output")}
    return StepContext("experiment", "tiny", "0", folder / "step", folder / "traces", inputs)


def _train(rank: int, folder: Path, full: bool) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = dist.FileStore(str(folder / f"meeting-point-{full}"), WORKERS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORKERS)
    assignment = assign(config(batch_size=8, resources={"workers": WORKERS, "checkpoint_every": 100}), _context(folder))
    steps = []
    say_nothing, worker._say_nothing = worker._say_nothing, lambda report: steps.append(report.step)
    try:
        work(assignment, torch.device("cpu"))
        told = None
    except StepError as error:
        told = str(error)
    finally:
        worker._say_nothing = say_nothing
    (folder / f"{full}-{rank}.json").write_text(json.dumps({"told": told, "steps": steps}))
    dist.destroy_process_group()


def test_a_result_that_cannot_be_written_costs_no_step(tmp_path: Path) -> None:
    write_letters(LettersConfig(train=40, test=1), StepContext("experiment", "letters", "0", tmp_path, tmp_path))
    (tmp_path / "step").mkdir()
    assignment = assign(config(batch_size=8), _context(tmp_path))
    prepare(assignment.config, assignment.context, assignment.data)

    def attempt(full: bool) -> list[dict[str, object]]:
        processes.start_processes(_train, args=(tmp_path, full), nprocs=WORKERS, start_method="forkserver")
        return [json.loads((tmp_path / f"{full}-{rank}.json").read_text()) for rank in range(WORKERS)]

    (tmp_path / "step" / "output" / "model.safetensors").mkdir(parents=True)
    failed = attempt(full=True)
    assert all(str(each["told"]).startswith("store: ") for each in failed), failed
    assert failed[1]["steps"] == [1, 2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "step" / "checkpoints").iterdir()] == ["step-00000005"]

    (tmp_path / "step" / "output" / "model.safetensors").rmdir()
    again = attempt(full=False)
    assert [each["told"] for each in again] == [None, None]
    assert again[1]["steps"] == []
    assert (tmp_path / "step" / "output" / "model.safetensors").is_file()
