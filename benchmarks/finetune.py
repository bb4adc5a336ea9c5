"""Ours against TRL's SFTTrainer: tokens a second, peak memory, and the same losses.

    python -m venv trl && trl/bin/pip install -e '.[benchmarks]'
    trl/bin/python benchmarks/finetune.py [--json FILE]

One model (a small Qwen2 with a vocabulary of 32,768), one dataset, one order of samples, one batch, one schedule,
float32, both on the same number of threads. Each side runs in processes of its own, ours as a step under torchrun, TRL
as its documentation has it, and tells its loss at each step, its seconds, and the peak of its process's memory. Two
workloads:

``speed``  samples as unequal in length as reasoning traces are (log-normal; the longest of 16 is about three times
           the mean), in batches of 16. TRL takes four at once, padded to the longest of them; ours as many at once
           as have, padded, the tokens of four average ones. Tokens are counted without padding.
``memory`` single samples of 16,384 tokens, with activation checkpointing on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

VOCABULARY = 32_768
WARM_UP = 1
"""Steps that are not timed."""


@dataclass(frozen=True)
class Workload:
    """What both sides train."""

    name: str
    layers: int
    hidden_size: int
    lengths: tuple[int, ...]
    """Characters, which are tokens, of the samples' traces."""
    batch_size: int
    at_once: int
    """Samples that TRL has in the model at once."""
    tokens_at_once: int
    """Padded tokens that ours has."""
    checkpointing: bool
    block_size: int = 16_384
    seed: int = 0

    def config(self, folder: Path, threads: int) -> dict[str, Any]:
        """Our ``finetune`` step."""
        return {
            "model": str(folder / "model"),
            "data": str(folder / "data.jsonl"),
            "precision": "float32",
            "template": "think",
            "epochs": 1,
            "batch_size": self.batch_size,
            "block_size": self.block_size,
            "learning_rate": 1e-3,
            "seed": self.seed,
            "resources": {
                "workers": 1,
                "cpus_per_worker": threads,
                "tokens_in_memory": self.tokens_at_once,
                "activation_checkpointing": "full" if self.checkpointing else "off",
                "checkpoint_every": 10_000,
            },
        }


@dataclass(frozen=True)
class Outcome:
    """What one side said."""

    losses: tuple[float, ...]
    tokens_per_second: float
    """Without padding, from the second step on."""
    peak_memory: int
    """Bytes of the process that trains."""


def workloads(steps: int) -> tuple[Workload, ...]:
    """Both, of so many optimizer steps."""
    drawn = np.random.default_rng(0).lognormal(mean=5.6, sigma=0.8, size=16 * steps)
    lengths = tuple(int(length) for length in np.clip(drawn, 32, 3000))
    of_four = 4 * sum(lengths) // len(lengths)
    return (
        Workload("speed", 2, 256, lengths, 16, 4, of_four, checkpointing=False),
        Workload("memory", 2, 256, (17_000,) * 2, 1, 1, 16_384, checkpointing=True),
    )


def prepare(workload: Workload, folder: Path) -> None:
    """Writes the model and the data."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from jobs.finetune.tokenizer import byte_tokenizer

    torch.manual_seed(workload.seed)
    tokenizer = byte_tokenizer(workload.block_size)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=workload.hidden_size,
        intermediate_size=2 * workload.hidden_size,
        num_hidden_layers=workload.layers,
        num_attention_heads=workload.hidden_size // 64,
        num_key_value_heads=workload.hidden_size // 64,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    drawn = np.random.default_rng(workload.seed)
    with (folder / "data.jsonl").open("w") as file:
        for length in workload.lengths:
            trace = "".join(map(chr, drawn.integers(97, 123, length)))
            file.write(json.dumps({"question": "What follows?", "trace": trace, "answer": "That."}) + "\n")


def ours(workload: Workload, folder: Path, threads: int) -> Outcome:
    """Runs the step in a store of its own, and reads what it logged."""
    experiment = {
        "name": "benchmark",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {"tuned": {"job": "finetune", **workload.config(folder, threads)}},
    }
    (folder / "benchmark.yaml").write_text(json.dumps(experiment))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    _run([*torchrun, "-m", "jobs.finetune", str(folder / "benchmark.yaml")], environment, folder / "ours.log")
    (log,) = (folder / "runs").glob("tuned-*/tracked/finetune/metrics.jsonl")
    steps = [json.loads(line)["values"] for line in log.read_text().splitlines()]
    timed = [step for step in steps if "loss" in step][WARM_UP:]
    return Outcome(
        losses=tuple(step["loss"] for step in steps if "loss" in step),
        tokens_per_second=statistics.harmonic_mean([step["tokens_per_second"] for step in timed]),
        peak_memory=max(int(step["peak_memory"]) for step in steps if "peak_memory" in step),
    )


def theirs(workload: Workload, folder: Path, threads: int) -> Outcome:
    """Runs this file once more, as the process in which SFTTrainer trains."""
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    _run([sys.executable, __file__, "--trl", str(folder), "--threads", str(threads)], environment, folder / "trl.log")
    told = json.loads((folder / "trl.json").read_text())
    return Outcome(tuple(told["losses"]), told["tokens_per_second"], told["peak_memory"])


def _run(command: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("wb") as output:
        ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{tail}")


def train_with_trl(folder: Path, threads: int) -> None:
    """SFTTrainer on the workload of `folder`; leaves ``trl.json`` there."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from jobs.finetune.batches import Schedule
    from jobs.finetune.config import Config
    from jobs.finetune.data import tokenize
    from jobs.finetune.optimizer import learning_rate
    from jobs.finetune.samples import read_samples
    from jobs.template import TEMPLATES

    torch.set_num_threads(threads)
    workload = Workload(**json.loads((folder / "workload.json").read_text()))
    config = Config.model_validate_json(json.dumps(workload.config(folder, threads)))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    data = tokenize(read_samples(config.data), tokenizer, TEMPLATES[config.template], config.block_size)
    schedule = Schedule(len(data), config.batch_size, config.epochs, config.seed)
    batches = [schedule.batch(step) for step in range(schedule.steps)]
    rows = []
    for index in (index for batch in batches for index in batch):
        ids, prompt = data.sample(index)
        rows.append({"input_ids": ids.tolist(), "labels": [-100] * prompt + ids[prompt:].tolist()})
    ends: list[float] = []
    losses: list[float] = []

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    class InOrder(SFTTrainer):
        """Samples come in the order in which ours has them."""

        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(rows)

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    decaying = {name for name, weight in model.named_parameters() if weight.ndim >= 2}
    groups = [
        {
            "params": [weight for name, weight in model.named_parameters() if (name in decaying) == decays],
            "weight_decay": d,
        }
        for decays, d in ((True, config.weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    scale = [learning_rate(step, schedule.steps, config) / config.learning_rate for step in range(schedule.steps)] + [
        0.0
    ]
    trainer = InOrder(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=workload.at_once,
            gradient_accumulation_steps=workload.batch_size // workload.at_once,
            gradient_checkpointing=workload.checkpointing,
            max_length=workload.block_size,
            max_grad_norm=config.max_gradient_norm,
            num_train_epochs=1,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, scale.__getitem__)),
        callbacks=[Steps()],
    )
    trainer.train()
    timed = sum(int(data.lengths(batch).sum()) for batch in batches[WARM_UP:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = {"losses": losses, "tokens_per_second": timed / (ends[-1] - ends[WARM_UP - 1]), "peak_memory": peak}
    (folder / "trl.json").write_text(json.dumps(told))


def compare(workload: Workload, threads: int) -> dict[str, Any]:
    """The figures of one workload, by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(workload, folder)
        trl, own = theirs(workload, folder, threads), ours(workload, folder, threads)
    return {
        "steps": len(own.losses),
        "trl_tokens_per_second": trl.tokens_per_second,
        "our_tokens_per_second": own.tokens_per_second,
        "tokens_per_second_ratio": own.tokens_per_second / trl.tokens_per_second,
        "trl_peak_memory": trl.peak_memory,
        "our_peak_memory": own.peak_memory,
        "peak_memory_ratio": own.peak_memory / trl.peak_memory,
        "largest_loss_difference": max(abs(a - b) for a, b in zip(own.losses, trl.losses, strict=True)),
        "our_losses": own.losses,
        "trl_losses": trl.losses,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of the speed workload")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=["speed", "memory"], help="one of the workloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--trl", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trl is not None:
        train_with_trl(options.trl, options.threads)
        return
    figures = {}
    for workload in workloads(options.steps):
        if options.only in (None, workload.name):
            figures[workload.name] = compare(workload, options.threads)
            print(f"{workload.name}:")
            for name, value in figures[workload.name].items():
                if not isinstance(value, tuple):
                    print(f"  {name:<26} {value:>18,.6g}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
