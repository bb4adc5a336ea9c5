"""A gang without Ray: the training loop in processes that the test starts itself, connected by gloo."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from jobs.finetune.checkpoint_files import CheckpointFolder
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.data import tokenize
from jobs.finetune.deepspeed_config import deepspeed_settings
from jobs.finetune.export import export
from jobs.finetune.leaving import Leaving
from jobs.finetune.loop import train
from jobs.finetune.measures import StepReport
from jobs.finetune.model import draw
from jobs.finetune.samples import Sample
from jobs.finetune.tokenizer import load_tokenizer
from jobs.finetune.worker import make_strategy
from jobs.letters.generator import training
from jobs.template import TEMPLATES

# Workers fork from a process that has imported what takes seconds.
multiprocessing.set_forkserver_preload([__name__, "transformers.models.qwen2.modeling_qwen2"])


def letters_samples(count: int) -> list[Sample]:
    return [Sample(q.text, trace.text, f"Final Answer: {trace.answer}") for q, trace in training(count, seed=0)]


def config(**changes: object) -> FinetuneConfig:
    """A model and a run as small as they can be."""
    fields = {
        "model": {"random": "qwen2", "layers": 2, "hidden_size": 64, "context": 256},
        "data": "${letters}",
        "batch_size": 6,
        "resources": {"checkpoint_every": 4, "tokens_in_memory": 400},
    }
    return FinetuneConfig.model_validate_json(json.dumps(fields | changes))


def train_in_processes(
    config: FinetuneConfig,
    folder: Path,
    *,
    samples: int,
    workers: int,
    interrupt_at: int | None = None,
    announced_in: int | None = None,
) -> list[StepReport]:
    """What worker 0 reported in this call. Leaves `folder`/checkpoints, `folder`/weights and `folder`/output.

    All workers are killed (SIGKILL) when step `interrupt_at` is done, and then only checkpoints are left. In the step
    number `announced_in` of this call, from 1, the last worker knows that its machine is about to go.
    """
    (folder / "reports.jsonl").unlink(missing_ok=True)
    (folder / "meeting-point").unlink(missing_ok=True)
    arguments = (config, folder, samples, workers, interrupt_at, announced_in)
    try:
        processes.start_processes(_work, args=arguments, nprocs=workers, start_method="forkserver")
    except processes.ProcessExitedException as error:
        if error.signal_name != signal.SIGKILL.name:
            raise
    except processes.ProcessRaisedException as error:
        if Leaving.__name__ not in str(error):
            raise
    return [StepReport(**json.loads(line)) for line in (folder / "reports.jsonl").read_text().splitlines()]


def _work(
    rank: int,
    config: FinetuneConfig,
    folder: Path,
    samples: int,
    workers: int,
    interrupt_at: int | None,
    announced_in: int | None,
) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = dist.FileStore(str(folder / "meeting-point"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)

    def report(done: StepReport) -> None:
        if rank == 0:
            with (folder / "reports.jsonl").open("a") as file:
                file.write(json.dumps(asdict(done)) + "\n")
        if done.step == interrupt_at:
            dist.barrier()  # the first has said so: the end of one ends the others
            os.kill(os.getpid(), signal.SIGKILL)

    steps = itertools.count(1)

    def leaving() -> bool:
        return next(steps) == announced_in and rank == workers - 1

    tokenizer = load_tokenizer(config.model)
    data = tokenize(letters_samples(samples), tokenizer, TEMPLATES[config.template], config.block_size)
    blueprint = draw(config.model, tokenizer, config)
    settings = deepspeed_settings(config) if config.strategy == "deepspeed" else None
    strategy = make_strategy(config, blueprint, torch.device("cpu"), settings)
    train(
        config,
        strategy,
        data,
        padding=tokenizer.pad_token_id,
        device=torch.device("cpu"),
        checkpoints=CheckpointFolder(str(folder / "checkpoints")),
        report=report,
        leaving=leaving,
    )
    weights = dict(strategy.weights())
    export(weights.items(), blueprint.architecture, tokenizer, folder / "output")
    if rank == 0:
        torch.save(weights, folder / "weights")
    dist.destroy_process_group()
