"""A gang without Ray: the training loop in processes that the test starts itself, connected by gloo."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from jobs.finetune.checkpoint_files import CheckpointFolder
from jobs.finetune.config import Config
from jobs.finetune.data import tokenize
from jobs.finetune.export import export
from jobs.finetune.fsdp import whole_weights
from jobs.finetune.loop import StepReport, train
from jobs.finetune.model import CausalLoss, build_model, load_tokenizer
from jobs.finetune.samples import Sample
from jobs.letters.generator import training
from jobs.template import TEMPLATES

# Workers fork from a process that has imported what takes seconds.
multiprocessing.set_forkserver_preload(["torch.distributed.fsdp", "transformers.models.qwen2.modeling_qwen2"])


class Interruption(Exception):
    """What stops a gang in the middle."""


def letters_samples(count: int) -> list[Sample]:
    return [Sample(q.text, trace.text, f"Final Answer: {trace.answer}") for q, trace in training(count, seed=0)]


def config(**changes: object) -> Config:
    """A model and a run as small as they can be."""
    fields = {
        "model": {"random": "qwen2", "layers": 2, "hidden_size": 64, "context": 256},
        "data": "${letters}",
        "batch_size": 6,
        "resources": {"checkpoint_every": 4, "tokens_in_memory": 400},
    }
    return Config.model_validate_json(json.dumps(fields | changes))


def train_in_processes(
    config: Config, folder: Path, *, samples: int, workers: int, interrupt_at: int | None = None
) -> list[StepReport]:
    """What worker 0 reported in this call. Leaves `folder`/checkpoints, `folder`/weights and `folder`/output."""
    (folder / "reports.jsonl").unlink(missing_ok=True)
    (folder / "meeting-point").unlink(missing_ok=True)
    arguments = (config, folder, samples, workers, interrupt_at)
    try:
        processes.start_processes(_work, args=arguments, nprocs=workers, start_method="forkserver")
    except processes.ProcessRaisedException:
        if interrupt_at is None:
            raise
    return [StepReport(**json.loads(line)) for line in (folder / "reports.jsonl").read_text().splitlines()]


def _work(rank: int, config: Config, folder: Path, samples: int, workers: int, interrupt_at: int | None) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "meeting-point"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)

    def report(done: StepReport) -> None:
        if rank == 0:
            with (folder / "reports.jsonl").open("a") as file:
                file.write(json.dumps(asdict(done)) + "\n")
        if done.step == interrupt_at:
            raise Interruption

    tokenizer = load_tokenizer(config.model)
    data = tokenize(letters_samples(samples), tokenizer, TEMPLATES[config.template], config.block_size)
    loss = CausalLoss(build_model(config.model, tokenizer, config.seed))
    padding = tokenizer.pad_token_id
    train(
        config,
        loss,
        data,
        padding=padding,
        device=torch.device("cpu"),
        checkpoints=CheckpointFolder(str(folder / "checkpoints")),
        report=report,
    )
    export(whole_weights(loss), loss.model.config, tokenizer, folder / "output")
    weights = {name: weight.full_tensor().detach() for name, weight in loss.named_parameters()}
    if rank == 0:
        torch.save(weights, folder / "weights")
    dist.destroy_process_group()
