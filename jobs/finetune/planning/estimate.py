"""What a training run would take on its machine: memory of each worker, the nearest settings that fit, time and cost.

Everything follows from the config, the model's config.json and the machine catalogue, so a plan can tell it on a laptop
before anything is downloaded. What cannot be known there is said to be unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.catalogue import in_usd
from jobs.architecture import Architecture, UnknownArchitecture, cached_snapshot, find
from jobs.finetune.config import BYTE_VOCABULARY, HEAD_SIZE, FinetuneConfig, RandomModel
from jobs.finetune.planning.fitting import Setting, nearest
from jobs.finetune.planning.memory import Sharding, WorkLayout, checkpoint_bytes
from jobs.finetune.planning.roofline import TrainingWork, seconds, traffic
from jobs.forecasts import DatasetForecast, ModelForecast
from orchestrator.job.config import Upcoming
from orchestrator.job.estimate import Estimate
from orchestrator.job.local_files import locate
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import Reference
from orchestrator.job.resources import DEFAULT_GPU

_BYTES_PER_TOKEN = 4
"""Of English and mathematics in a vocabulary of 150,000: a rule of thumb."""


@dataclass(frozen=True)
class _Volume:
    """How much there is to learn from, in one epoch."""

    samples: int
    tokens: float
    words: str


_PUBLISHED = {"simplescaling/s1K": _Volume(1000, 5_658_480, "1,000 samples of 5.7M tokens in s1's chat format")}
"""Datasets whose size is known by their name. s1K: in s1's chat format, with Qwen2.5's tokenizer, 712 to 9,109 each;
the paper's 4.7M are its traces alone."""


def estimate(config: FinetuneConfig, inputs: Mapping[str, Upcoming]) -> Estimate:
    """What `config` would take, as far as it can be known before launch."""
    resources, where, setting = config.resources, config.machine, setting_of(config)
    on_cpus, cards = setting.layout.on_cpu, setting.cards
    holder = f"each of {resources.workers} x {where.card.title if cards == 1 else f'{cards} CPU cores'}"
    try:
        model = architecture(config, inputs)
    except UnknownArchitecture as error:
        return Estimate(f"memory, time and cost of {config.model} are not known before launch: {error}")
    needs = setting.needs(model)
    remarks = [] if resources.machine or on_cpus else [f"resources.machine is not set: {DEFAULT_GPU} is assumed"]
    if needs.host:
        workers = min(resources.workers, where.cards)
        remarks.append(f"offloaded to the memory of each node: {workers * needs.host / 1e9:.0f} GB")
    volume = _volume(config, inputs)
    steps = None if volume is None else _steps(config, volume)
    if volume is None:
        remarks.append("how long it takes is not known before its data is read")
        taken = None
    else:
        taken = _seconds(config, model, setting, volume)
        rate = f"MFU {resources.mfu or where.card.mfu:.0%} of {where.card.tflops:g} TFLOP/s"
        remarks.append(f"{config.epochs} x {volume.words}; {rate}; {where.price}")
    used = resources.workers * cards
    remarks.append(_checkpoints(config, checkpoint_bytes(model, setting.layout), steps, taken))
    return Estimate(
        holder=holder,
        memory=needs.parts,
        moment=needs.moment,
        available=setting.available,
        remedies=() if setting.fits(model) else tuple(nearest(model, setting)),
        seconds=taken,
        device=where.device,
        device_hours=None if taken is None else used * taken / 3600,
        usd=None if taken is None else where.usd(used, taken),
        remarks=tuple(remarks),
    )


def forecast(config: FinetuneConfig, inputs: Mapping[str, Upcoming]) -> ModelForecast | None:
    """The model that training makes, where its shapes are known."""
    try:
        return ModelForecast(architecture(config, inputs), _tokenizer(config, inputs))
    except UnknownArchitecture:
        return None


def _tokenizer(config: FinetuneConfig, inputs: Mapping[str, Upcoming]) -> Callable[[], Any | None]:
    """What loads the tokenizer that the trained model keeps."""
    source = config.model
    if isinstance(source, Reference):
        made = inputs[source.step].forecast
        return made.tokenizer if isinstance(made, ModelForecast) else _nothing
    if isinstance(source, RandomModel):
        return partial(_load_tokenizer, source)
    folder = cached_snapshot(source) if isinstance(source, str) else source.path
    return _nothing if folder is None else partial(_load_tokenizer, str(folder))


def _load_tokenizer(source: RandomModel | str) -> Any:
    from jobs.finetune.tokenizer import load_tokenizer

    return load_tokenizer(source)


def _nothing() -> None:
    """No tokenizer is on this machine."""


def architecture(config: FinetuneConfig, inputs: Mapping[str, Upcoming]) -> Architecture:
    """The shapes of the model that `config` trains. Raises UnknownArchitecture when nothing here tells them."""
    source = config.model
    if isinstance(source, Reference):
        made = inputs[source.step]
        if made.output is not None:
            return find(locate(str(made.output)))
        if isinstance(made.forecast, ModelForecast):
            return made.forecast.architecture
        raise UnknownArchitecture(f"step {source.step} has not made it yet")
    if isinstance(source, RandomModel):
        heads = source.hidden_size // HEAD_SIZE
        return Architecture(
            layers=source.layers,
            hidden_size=source.hidden_size,
            intermediate_size=2 * source.hidden_size,
            heads=heads,
            kv_heads=heads,
            head_size=HEAD_SIZE,
            vocabulary=BYTE_VOCABULARY,
            tied=True,
            qkv_bias=True,
            context=source.context,
        )
    return find(source)


def setting_of(config: FinetuneConfig) -> Setting:
    """What `config` holds in memory, and where."""
    resources, where = config.resources, config.machine
    on_cpus = where.device == "core"
    positions = config.model.context if isinstance(config.model, RandomModel) else config.block_size
    longest = min(config.block_size, positions)
    layout = WorkLayout(
        tokens=longest,
        strategy=_strategy(config),
        checkpointing=resources.activation_checkpointing,
        offload=resources.offload,
        compute={"bf16": 2, "float32": 4, "float64": 8}[config.precision],
        adapter_rank=None if config.lora is None else config.lora.rank,
        adapter_targets=() if config.lora is None else config.lora.targets,
        on_cpu=on_cpus,
    )
    return Setting(
        layout=layout,
        machine=where,
        cards=resources.cpus_per_worker if on_cpus else 1,
        workers=resources.workers,
        shard_group=resources.shard_group,
        batch_size=config.batch_size,
        block_size=longest,
        tokens_in_memory=resources.tokens_in_memory,
    )


def _strategy(config: FinetuneConfig) -> Sharding:
    """ZeRO's stage is the experiment's, else that of the user's ds_config.json, else 3."""
    if config.strategy == "fsdp":
        return "fsdp"
    from jobs.finetune.deepspeed_config import deepspeed_settings

    stage = deepspeed_settings(config)["zero_optimization"]["stage"]
    return "zero-2" if stage == 2 else "zero-3"


def _volume(config: FinetuneConfig, inputs: Mapping[str, Upcoming]) -> _Volume | None:
    """How much data there is, where that can be told without reading it token by token."""
    source = config.data.path
    if isinstance(source, Reference):
        made = inputs[source.step]
        if made.output is not None:
            return _of_file(Dataset(made.output).train, config)
        expected = made.forecast
        if not isinstance(expected, DatasetForecast) or not expected.samples or expected.tokens_per_sample is None:
            return None
        samples, each = expected.samples, expected.tokens_per_sample
        return _Volume(samples, samples * each, f"{samples:,} samples of about {each:g} tokens")
    if config.data.file is not None:
        return _of_file(config.data.file, config)
    return _PUBLISHED.get(config.data.dataset or "")


def _of_file(file: Path, config: FinetuneConfig) -> _Volume | None:
    """Counts lines, and tokens by the characters of their texts; None for what is not JSONL in UTF-8."""
    characters = samples = 0
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                characters += sum(len(value) for value in row.values() if isinstance(value, str))
                samples += 1
    except (OSError, ValueError, AttributeError):
        return None
    tokens = characters / (1 if isinstance(config.model, RandomModel) else _BYTES_PER_TOKEN)
    return _Volume(samples, tokens, f"{samples:,} samples of about {tokens / 1e6:.2g}M tokens") if samples else None


def _checkpoints(config: FinetuneConfig, size: float, steps: int | None, seconds: float | None) -> str:
    """How many, how large, where and how long; and what is done again where a worker is lost."""
    resources = config.resources
    every, place = resources.checkpoint_every, resources.checkpoints or "the step's own folder in the store"
    amount = f"{size / 1e9:.3g} GB"
    writing = "resources.checkpoint_rate tells how long each takes"
    if resources.checkpoint_rate is not None:
        writing = f"{_time(size / 1e9 / resources.checkpoint_rate)} each at {resources.checkpoint_rate:g} GB/s"
    if steps is None:
        return f"checkpoints: {amount} every {every} steps, to {place}; {writing}"
    count = (steps - 1) // every
    again = min(every, steps)
    lost = f"{again} of {steps} steps"
    if seconds is not None:
        cards = resources.workers * setting_of(config).cards
        share = seconds * again / steps
        lost += f", {_time(share)}, {in_usd(config.machine.usd(cards, share))}"
    loses = f"a lost worker costs at most {lost}"
    if not count:
        return f"checkpoints: none (every {every} steps, of {steps}); {loses}"
    total = "" if count == 1 else f", {count * size / 1e9:,.0f} GB in all"
    return f"checkpoints: {count} of {amount}{total}, every {every} steps, to {place}; {writing}; {loses}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _steps(config: FinetuneConfig, volume: _Volume) -> int:
    rows = math.ceil(volume.tokens / config.block_size) if config.packing else volume.samples
    return config.epochs * math.ceil(rows / config.batch_size)


def _seconds(config: FinetuneConfig, model: Architecture, setting: Setting, volume: _Volume) -> float:
    length = volume.tokens / volume.samples
    steps = _steps(config, volume)
    work = TrainingWork(config.epochs * volume.tokens, length, steps)
    samples_at_once = max(1, int(setting.tokens_in_memory // length))
    micro_batches = steps * math.ceil(config.batch_size / config.resources.workers / samples_at_once)
    layout = setting.layout
    return seconds(
        model,
        work,
        setting.machine,
        setting.workers * setting.cards,
        share=config.resources.mfu or setting.machine.card.mfu,
        sent=traffic(model, micro_batches, compute=layout.compute, master=layout.master),
        adapters=config.lora is not None,
    )
