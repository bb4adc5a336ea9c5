"""The fields of a ``finetune`` step: a model, the data it learns from, and the recipe.

Light: every experiment file is checked against it before torch, ray or transformers is imported. The defaults of the
recipe are the s1 paper's (Qwen2.5-32B on s1K). A model that starts from random weights has little use for those, so it
has defaults of its own where it differs: :data:`FROM_SCRATCH`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from jobs.finetune.data_config import DataConfig
from jobs.finetune.deepspeed_config import deepspeed_problems
from jobs.model_folder import folder_problems, local_folder
from jobs.template import TEMPLATES
from orchestrator.job.config import HubName, Problem, StepConfig
from orchestrator.job.outputs import Model, Output
from orchestrator.job.references import FileSource, ModelSource
from orchestrator.job.resources import MOST_AT_ONCE, Resources
from orchestrator.job.strict_model import StrictModel

HEAD_SIZE = 64
"""Width of an attention head: one that every engine supports."""

BYTE_VOCABULARY = 266
"""Ids of the tokenizer that a random model gets (:mod:`jobs.finetune.tokenizer`)."""

FROM_SCRATCH: Mapping[str, Any] = {"epochs": 1, "batch_size": 64, "learning_rate": 4e-3, "precision": "float32"}
"""Defaults for a random model: it sees much more data, once, and moves further; it is small, so rounding is cheap to
avoid."""


def _whole_heads(hidden_size: int) -> int:
    if hidden_size % HEAD_SIZE:
        raise ValueError(
            f"{hidden_size} is not a multiple of {HEAD_SIZE}, the width of a head: try {HEAD_SIZE}, 128, 256"
        )
    return hidden_size


def _known_template(name: str) -> str:
    if name not in TEMPLATES:
        raise ValueError(f"unknown template {name!r}: known are {', '.join(sorted(TEMPLATES))}")
    return name


def _checkpoint_place(location: str) -> str:
    scheme, separator, rest = location.partition("://")
    if not separator:
        if not location.startswith("/"):
            raise ValueError(
                f"{location!r} is not an absolute path: workers run elsewhere; give one, or s3://bucket/key"
            )
        return location
    bucket = rest.partition("/")[0]
    if scheme != "s3" or not bucket or "@" in bucket or ":" in bucket:
        raise ValueError(f"{location!r} is neither a folder nor s3://bucket/key, without credentials in it")
    return location


def _as_tuple(value: Any) -> Any:
    # Strict validation takes JSON lists for tuples, but no longer once _fill_in_for_scratch has had its hands on them.
    return tuple(value) if isinstance(value, list) else value


def _which(model: Any) -> str:
    return "a random model" if isinstance(model, RandomModel | Mapping) else "a source"


DecayRate = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[DecayRate, DecayRate], BeforeValidator(_as_tuple)]


class RandomModel(StrictModel):
    """A model of the named architecture with random weights and a vocabulary of bytes, to be trained from scratch."""

    random: Literal["qwen2"]
    layers: int = Field(ge=1, le=256)
    hidden_size: Annotated[int, AfterValidator(_whole_heads)] = Field(gt=0, le=65536)
    context: int = Field(default=512, ge=64, le=2**20, description="positions, in tokens")


class Lora(StrictModel):
    """Low-rank adapters beside frozen weights (arXiv 2106.09685), merged into them at the end."""

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float = Field(default=32.0, gt=0, allow_inf_nan=False, description="adapters count alpha / rank times")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of what goes into the adapters")
    targets: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="the linear layers that get adapters, by the ends of their names",
    )


class Evaluation(StrictModel):
    """The loss on samples that are kept from training, drawn by the seed."""

    share: float = Field(default=0.05, gt=0, lt=1, description="of the samples, at least one")
    every: int = Field(default=100, ge=1, description="optimizer steps between evaluations; also done after the last")


class DeepSpeedOptions(StrictModel):
    """How the ``deepspeed`` strategy divides the work. What is learned is the recipe's affair, whatever is here."""

    stage: Literal[2, 3] | None = Field(
        default=None, description="ZeRO: 2 shards gradients and optimizer, 3 the weights too; else the file's, else 3"
    )
    config: FileSource | None = Field(
        default=None, description="a ds_config.json; where it contradicts the recipe, that is an error"
    )


class FinetuneResources(Resources):
    """The gang that trains. The result does not depend on it, but for rounding."""

    workers: int = Field(default=1, ge=1, le=MOST_AT_ONCE, description="processes, each with a shard of the model")
    min_workers: int | None = Field(
        default=None, ge=1, description="after `wait` seconds, start with as many as there are, down to this; else fail"
    )
    cpus_per_worker: int = Field(default=1, ge=1)
    gpus_per_worker: Literal[0, 1] = Field(default=0, description="0: train on CPUs")
    tokens_in_memory: int = Field(default=2048, ge=1, description="padded tokens in the model at once, on each worker")
    checkpoint_every: int = Field(
        default=100, ge=1, description="optimizer steps between checkpoints; none of the last"
    )
    checkpoint_rate: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="GB per second that the workers together write there"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="the latest so many, until the step is done")
    checkpoints: Annotated[str, AfterValidator(_checkpoint_place)] | None = Field(
        default=None,
        min_length=1,
        description="a folder that all workers mount, or s3://bucket/key; else the step's own folder",
    )
    activation_checkpointing: Literal["off", "selective", "full"] = Field(
        default="off",
        description="of each layer keep all that its gradient needs, or only matrix products, or only its input",
    )
    offload: bool = Field(default=False, description="keep weights and optimizer in the CPU's memory between uses")
    shard_group: int | None = Field(
        default=None,
        ge=1,
        description="fsdp: workers that hold one copy of the model together, such as a node's 8; all",
    )
    compile: bool = Field(default=False, description="compile each layer with torch.compile")
    deterministic: bool = Field(
        default=False, description="on GPUs: the same bits from run to run, at the price of slower kernels"
    )
    mfu: float | None = Field(
        default=None, gt=0, le=1, description="share of the peak that the plan assumes; else the catalogue's"
    )
    deepspeed: DeepSpeedOptions = DeepSpeedOptions()


class FinetuneConfig(StepConfig):
    """One training run, from a model and a dataset to a model."""

    VERSION: ClassVar[int] = 2
    PRODUCES: ClassVar[type[Output]] = Model

    model: Annotated[
        Annotated[RandomModel, Tag("a random model")] | Annotated[ModelSource, Tag("a source")], Discriminator(_which)
    ] = Field(
        description="{random: qwen2, layers, hidden_size}, ${step}, a folder in Hugging Face's layout, or a hub name"
    )
    revision: str | None = Field(
        default=None, min_length=1, description="of a model on the hub: a commit, a tag or a branch; else its newest"
    )
    data: DataConfig = Field(description="${step}, a file, a folder, a hub name, or a mapping with columns")
    packing: bool = Field(
        default=False, description="rows of block_size tokens, of several samples each; batch_size then counts rows"
    )
    strategy: Literal["fsdp", "deepspeed"] = Field(default="fsdp", description="what divides the model among workers")
    precision: Literal["bf16", "float32", "float64"] = Field(
        default="bf16", description="of the computation; bf16 keeps weights, optimizer and sums over workers in float32"
    )
    loss: Literal["tokens", "samples"] = Field(
        default="tokens", description="what a step's loss is the mean of: of all its tokens, or of its samples' means"
    )
    # Left out where it is usual: models of before are the same ones.
    learn: Literal["all", "answer"] = Field(
        default="all",
        exclude_if=lambda learn: learn == "all",
        description="of each sample: all that comes after its prompt, or its answer alone, such as a scorer's verdict",
    )
    lora: Lora | None = None
    evaluation: Evaluation | None = None
    template: Annotated[str, AfterValidator(_known_template)] = Field(
        default="think", description="delimiters of thinking"
    )
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=16, ge=1, description="samples per optimizer step, over all workers")
    block_size: int = Field(default=32768, ge=2, description="tokens at which a sample is cut")
    learning_rate: float = Field(default=1e-5, gt=0, allow_inf_nan=False, description="at its peak")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps in which it rises, linearly")
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    betas: Betas = Field(default=(0.9, 0.95), description="AdamW's averages of the gradient and of its square")
    max_gradient_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, lt=2**31)
    resources: FinetuneResources = FinetuneResources()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_for_scratch(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and isinstance(fields.get("model"), Mapping):
            return {**FROM_SCRATCH, **fields}
        return fields

    def demands(self) -> list[dict[str, float]]:
        """One bundle per worker; what coordinates them takes none."""
        bundle = {"CPU": float(self.resources.cpus_per_worker)}
        if self.resources.gpus_per_worker:
            bundle["GPU"] = float(self.resources.gpus_per_worker)
        return [dict(bundle) for _ in range(self.resources.workers)]

    def notes(self) -> list[str]:
        """What a setting costs that nothing else shows."""
        if not self.resources.deterministic:
            return []
        return [
            "resources.deterministic: costs time on GPUs, most of all in attention's backward pass, and 32 MiB for "
            "cuBLAS; how much is for the first steps' tokens_per_second to say"
        ]

    def holds(self) -> float:
        """Its gang may wait for its machines, and it says when it has them."""
        return 0.0

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """Files that are not there, or not what they should be, seen before anything heavy is loaded."""
        yield from self.data.problems(contents)
        yield from folder_problems(self.model)
        if self.revision is not None and (not isinstance(self.model, str) or self.model_folder is not None):
            yield Problem(("revision",), f"is of a model on the hub, and model is {self.model}: leave it out")
        if self.resources.checkpoints and "://" in self.resources.checkpoints and find_spec("s3fs") is None:
            yield Problem(
                ("resources", "checkpoints"), "needs s3fs, which is not installed: pip install s3fs, or give a folder"
            )
        yield from self._gang_problems()

    def hub_names(self) -> Iterator[HubName]:
        """The model and the data."""
        if isinstance(self.model, str):
            yield HubName(("model",), "model", self.model)
        if self.data.dataset is not None:
            yield HubName(("data",), "dataset", self.data.dataset, self.data.revision)

    def _gang_problems(self) -> Iterator[Problem]:
        """What the workers, the strategy and the recipe make of each other."""
        workers, group = self.resources.workers, self.resources.shard_group
        if self.batch_size % workers:
            most = min(self.batch_size, MOST_AT_ONCE)
            possible = [str(count) for count in range(1, most + 1) if self.batch_size % count == 0]
            yield Problem(
                ("resources", "workers"),
                f"{workers} workers cannot share batches of {self.batch_size} (batch_size) equally: take "
                f"{', '.join(possible)}, or another batch_size",
            )
        if self.resources.min_workers is not None and self.resources.min_workers > workers:
            yield Problem(
                ("resources", "min_workers"),
                f"{self.resources.min_workers} is more than the {workers} workers: take {workers} or less",
            )
        if group is not None and self.strategy != "fsdp":
            yield Problem(("resources", "shard_group"), "is a field of strategy fsdp: leave it out, or change strategy")
        elif group is not None and workers % group:
            yield Problem(
                ("resources", "shard_group"), f"{group} does not divide the {workers} workers: take a number that does"
            )
        if self.resources.compile and self.packing:
            yield Problem(
                ("resources", "compile"),
                "packed rows would be compiled anew for each mixture of samples: leave out one of compile and packing",
            )
        if self.strategy == "deepspeed":
            if self.precision == "float64":
                yield Problem(("precision",), "DeepSpeed has no float64: take bf16 or float32, or strategy fsdp")
            yield from deepspeed_problems(self)
        elif self.resources.deepspeed != DeepSpeedOptions():
            yield Problem(("resources", "deepspeed"), "is for strategy deepspeed: leave it out, or change strategy")

    def external_inputs(self) -> Mapping[str, Path]:
        """The user's own data and model folder."""
        files = {"data": self.data.file, "model": self.model_folder}
        return {name: path for name, path in files.items() if path is not None}

    def describe(self) -> str:
        """``2 workers, 1 epoch of batches of 64``."""
        workers = f"{self.resources.workers} worker{'s' * (self.resources.workers > 1)}"
        epochs = f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
        return f"{workers}, {epochs} in batches of {self.batch_size}{' packed rows' * self.packing}"

    @property
    def model_folder(self) -> Path | None:
        """The model when it is a local folder."""
        return local_folder(self.model)
