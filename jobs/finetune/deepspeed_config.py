"""What DeepSpeed is told: the user's ``ds_config.json``, if there is one, completed by the recipe.

The recipe stands in the experiment, where it is part of what the step is; the file may say how the work is divided
(buckets, offloading, overlap), which changes no result. Keys that say something about the recipe are accepted where
they say the same or ``"auto"``, and are otherwise named with both values. Light: read when an experiment is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.job import local_files
from orchestrator.job.config import Problem
from orchestrator.job.errors import StepError

if TYPE_CHECKING:
    from jobs.finetune.config import FinetuneConfig

AUTO = "auto"
"""What files written for Hugging Face's trainer have where the trainer's own settings apply."""

EPSILON = 1e-8
"""AdamW's, in every strategy: torch's default."""

_MOST = 1 << 20
"""Bytes of the file."""

_FIELD = ("resources", "deepspeed", "config")
_SECTIONS = ("bf16", "optimizer", "zero_optimization")
_LOOP = "what resources.tokens_in_memory allows, step by step"

_CHANGE_LEARNING = ("curriculum_learning", "data_efficiency", "progressive_layer_drop")
"""Sections that, when enabled, make another model of the same data."""


@dataclass(frozen=True)
class Conflict:
    """A key of the file that contradicts the experiment."""

    key: str
    theirs: Any
    ours: Any
    """The experiment's value, or words for it."""

    def __str__(self) -> str:
        ours = self.ours if isinstance(self.ours, str) else json.dumps(self.ours)
        return f"{self.key} is {json.dumps(self.theirs)}, but here it is {ours}"


def deepspeed_problems(config: FinetuneConfig) -> Iterator[Problem]:
    """What is wrong with the config's ds_config.json: unreadable, or contradicting the recipe, a line per key."""
    try:
        theirs = _read(config)
    except StepError as error:
        yield Problem(_FIELD, str(error))
        return
    for conflict in conflicts(theirs, config):
        yield Problem(_FIELD, f"{conflict}: change the experiment, or drop the key from the file")


def conflicts(theirs: Mapping[str, Any], config: FinetuneConfig) -> Iterator[Conflict]:
    """Where a ds_config contradicts the recipe of `config`."""
    stage = config.resources.deepspeed.stage
    for key, ours in (
        ("train_batch_size", config.batch_size),
        ("gradient_clipping", config.max_gradient_norm),
        ("bf16.enabled", config.precision == "bf16"),
        ("bfloat16.enabled", config.precision == "bf16"),
        ("fp16.enabled", False),
        ("communication_data_type", "fp32"),
        ("data_types.grad_accum_dtype", "fp32"),
        ("optimizer.params.lr", config.learning_rate),
        ("optimizer.params.betas", list(config.betas)),
        ("optimizer.params.weight_decay", config.weight_decay),
        ("optimizer.params.eps", EPSILON),
        *((("zero_optimization.stage", stage),) if stage else ()),
    ):
        their_value = _at(theirs, key)
        if their_value not in (None, AUTO, ours):
            yield Conflict(key, their_value, ours)
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        if _at(theirs, key) not in (None, AUTO):
            yield Conflict(key, theirs[key], _LOOP)
    if _at(theirs, "optimizer.type") not in (None, "AdamW", AUTO):
        yield Conflict("optimizer.type", _at(theirs, "optimizer.type"), "AdamW")
    if "scheduler" in theirs:
        ours = f"a cosine after a warm-up over {config.warmup:g} of the steps"
        yield Conflict("scheduler.type", _at(theirs, "scheduler.type"), ours)
    if not stage and _at(theirs, "zero_optimization.stage") not in (None, AUTO, 2, 3):
        yield Conflict("zero_optimization.stage", _at(theirs, "zero_optimization.stage"), "2 or 3")
    for key in _CHANGE_LEARNING:
        if _at(theirs, f"{key}.enabled"):
            yield Conflict(key, theirs[key], "off")


def deepspeed_settings(config: FinetuneConfig) -> dict[str, Any]:
    """The whole of what ``deepspeed.initialize`` is given. Raises StepError for a file that cannot be used."""
    theirs = _read(config)
    for conflict in conflicts(theirs, config):
        raise StepError(f"{'.'.join(_FIELD)}: {conflict}: change the experiment, or drop the key from the file")
    kept = {key: value for key, value in theirs.items() if key not in ("optimizer", "bfloat16") and value != AUTO}
    zero = {key: value for key, value in kept.get("zero_optimization", {}).items() if value != AUTO}
    zero = {"stage": config.resources.deepspeed.stage or 3, **zero}
    if config.resources.offload:
        zero = {"offload_optimizer": {"device": "cpu"}, **zero}
        if zero["stage"] == 3:
            zero = {"offload_param": {"device": "cpu"}, **zero}
    return {
        # DeepSpeed logs every step otherwise.
        "steps_per_print": 2**31,
        **kept,
        # For its own accounts: how many micro-batches make a step is told to it before each.
        "train_batch_size": config.resources.workers,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.max_gradient_norm,
        "bf16": {**kept.get("bf16", {}), "enabled": config.precision == "bf16"},
        "fp16": {"enabled": False},
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        # torch's AdamW, as in every strategy, on the CPU too: the same arithmetic, and no C++ to compile.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _read(config: FinetuneConfig) -> Mapping[str, Any]:
    """The user's file; empty where there is none. Raises StepError, without the field's name, when it is no such."""
    file = config.resources.deepspeed.config
    if file is None:
        return {}
    name = str(file)
    try:
        read = local_files.content(file.path, _MOST)
    except ValueError as error:
        raise StepError(f"{name!r} {error}: give a ds_config.json") from error
    try:
        content = json.loads(read)
    except (ValueError, RecursionError) as error:
        raise StepError(f"{name!r} is not JSON ({error}): give a ds_config.json") from error
    if not isinstance(content, dict):
        raise StepError(f"{name!r} is not a JSON object: give a ds_config.json")
    for section in _SECTIONS:
        if not isinstance(content.get(section, {}), dict):
            raise StepError(f"{name!r} has no object at {section}: give a ds_config.json")
    return content


def _at(settings: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted `key`; None where there is none."""
    value: Any = settings
    for name in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
