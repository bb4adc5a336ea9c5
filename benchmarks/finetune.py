"""Ours against TRL's SFTTrainer: tokens a second, peak memory, and the same losses.

    python -m venv trl && trl/bin/pip install -e '.[benchmarks]'
    trl/bin/python benchmarks/finetune.py [--rounds 3] [--json FILE]

One model (a small Qwen2 with a vocabulary of 32,768), one dataset, one order of samples, one batch, one schedule,
float32, both on the same number of threads. Each side runs in processes of its own, ours as a step under torchrun, TRL
as its documentation has it, and tells its loss at each step, its seconds, and the peak of its process's memory. They
take turns, as often as there are rounds, and the median of each side's rounds counts. Two workloads:

``speed``  samples as unequal in length as reasoning traces are (log-normal; the longest of 16 is about three times
           the mean), in batches of 16. TRL takes four at once, padded to the longest of them; ours as many at once
           as have, padded, the tokens of four average ones. Tokens are counted without padding; how many positions
           each side computes, padding included, is told too.
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
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from jobs.finetune.data import TokenizedData

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
    seconds: float
    """From the end of the first step to that of the last."""
    positions: float
    """Computed for each token that is no padding."""
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


def ours(workload: Workload, folder: Path, place: Path, threads: int) -> Outcome:
    """Runs the step in a store of its own at `place`, and reads what it logged."""
    experiment = {
        "name": "benchmark",
        "store": str(place / "runs"),
        "tracking": f"sqlite:///{place}/mlflow.db",
        "steps": {"tuned": {"job": "finetune", **workload.config(folder, threads)}},
    }
    (place / "benchmark.yaml").write_text(json.dumps(experiment))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    _run([*torchrun, "-m", "jobs.finetune", str(place / "benchmark.yaml")], environment, place / "ours.log")
    (log,) = (place / "runs").glob("tuned-*/tracked/finetune/metrics.jsonl")
    lines = [line for line in map(json.loads, log.read_text().splitlines()) if "loss" in line["values"]]
    steps = [line["values"] for line in lines]
    return Outcome(
        losses=tuple(step["loss"] for step in steps),
        seconds=lines[-1]["time"] - lines[WARM_UP - 1]["time"],
        positions=statistics.fmean(1 / (1 - step["padding"]) for step in steps),
        peak_memory=max(int(step["peak_memory"]) for step in steps),
    )


def theirs(workload: Workload, folder: Path, place: Path, threads: int) -> Outcome:
    """Runs this file once more, as the process in which SFTTrainer trains."""
    (place / "workload.json").write_text(json.dumps(asdict(workload)))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    sides = ["--trl", str(place), "--trains", str(folder)]
    _run([sys.executable, __file__, *sides, "--threads", str(threads)], environment, place / "trl.log")
    return Outcome(**json.loads((place / "trl.json").read_text()))


def _run(command: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("wb") as output:
        ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{tail}")


def tokenized(workload: Workload, folder: Path) -> tuple[TokenizedData, list[list[int]]]:
    """The samples as both sides read them, and those of every optimizer step."""
    from transformers import AutoTokenizer

    from jobs.finetune.batches import Schedule
    from jobs.finetune.config import FinetuneConfig
    from jobs.finetune.data import tokenize
    from jobs.finetune.samples import read_samples
    from jobs.template import TEMPLATES

    config = FinetuneConfig.model_validate_json(json.dumps(workload.config(folder, threads=1)))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    data = tokenize(read_samples(config.data), tokenizer, TEMPLATES[config.template], config.block_size, config.learn)
    schedule = Schedule(len(data), config.batch_size, config.epochs, config.seed)
    return data, [schedule.batch(step) for step in range(schedule.steps)]


def train_with_trl(folder: Path, place: Path, threads: int) -> None:
    """SFTTrainer on the model and the data of `folder`; leaves ``trl.json`` at `place`."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from jobs.finetune.config import FinetuneConfig
    from jobs.finetune.optimizer import learning_rate

    torch.set_num_threads(threads)
    workload = Workload(**json.loads((place / "workload.json").read_text()))
    config = FinetuneConfig.model_validate_json(json.dumps(workload.config(folder, threads)))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    data, batches = tokenized(workload, folder)
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
    steps = len(batches)
    scale = [*(learning_rate(step, steps, config) / config.learning_rate for step in range(steps)), 0.0]
    trainer = InOrder(
        model=model,
        args=SFTConfig(
            output_dir=str(place / "trl"),
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
    drawn = [index for batch in batches for index in batch]
    groups_at_once = [data.lengths(drawn[at : at + workload.at_once]) for at in range(0, len(drawn), workload.at_once)]
    outcome = Outcome(
        losses=tuple(losses),
        seconds=ends[-1] - ends[WARM_UP - 1],
        positions=sum(len(four) * int(four.max()) for four in groups_at_once) / int(data.lengths(drawn).sum()),
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    (place / "trl.json").write_text(json.dumps(asdict(outcome)))


def compare(workload: Workload, threads: int, rounds: int = 1) -> dict[str, Any]:
    """The figures of one workload, by name."""
    outcomes: dict[str, list[Outcome]] = {"trl": [], "our": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(workload, folder)
        data, batches = tokenized(workload, folder)
        tokens = sum(int(data.lengths(batch).sum()) for batch in batches[WARM_UP:])
        for number in range(rounds):
            place = folder / f"round-{number}"
            place.mkdir()
            outcomes["trl"].append(theirs(workload, folder, place, threads))
            outcomes["our"].append(ours(workload, folder, place, threads))
    figures: dict[str, Any] = {"steps": len(batches), "rounds": rounds}
    for side, told in outcomes.items():
        figures[f"{side}_tokens_per_second"] = statistics.median(tokens / outcome.seconds for outcome in told)
        figures[f"{side}_positions_per_token"] = told[0].positions
        figures[f"{side}_peak_memory"] = statistics.median(outcome.peak_memory for outcome in told)
    for name in ("tokens_per_second", "peak_memory"):
        figures[f"{name}_ratio"] = figures[f"our_{name}"] / figures[f"trl_{name}"]
    pairs = [
        abs(a - b)
        for trl, own in zip(outcomes["trl"], outcomes["our"], strict=True)
        for a, b in zip(trl.losses, own.losses, strict=True)
    ]
    figures["largest_loss_difference"] = max(pairs)
    figures["losses"] = {side: [outcome.losses for outcome in told] for side, told in outcomes.items()}
    figures["seconds"] = {side: [outcome.seconds for outcome in told] for side, told in outcomes.items()}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of the speed workload")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=["speed", "memory"], help="one of the workloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--trl", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trains", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trl is not None:
        train_with_trl(options.trains, options.trl, options.threads)
        return
    figures = {}
    for workload in workloads(options.steps):
        if options.only in (None, workload.name):
            figures[workload.name] = compare(workload, options.threads, options.rounds)
            print(f"{workload.name}:")
            for name, value in figures[workload.name].items():
                if not isinstance(value, dict):
                    print(f"  {name:<26} {value:>18,.6g}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
