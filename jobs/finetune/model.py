"""The model that is trained, and its loss."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub import snapshot_download
from torch import Tensor, nn

from jobs.finetune.attention import stay_within_documents
from jobs.finetune.batches import IGNORED, Batch
from jobs.finetune.chunks import positions_at_once
from jobs.finetune.config import HEAD_SIZE, FinetuneConfig, Lora, RandomModel
from jobs.finetune.cross_entropy import cross_entropies
from jobs.finetune.empty import parameters_without_memory
from jobs.finetune.lora import attach
from jobs.finetune.weights import AdaptedWeights, MadeWeights, StoredWeights, Weights
from jobs.transformers_classes import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
)
from orchestrator.job.errors import StepError

_ROPE_THETA = 1000.0
"""Rotations suited to contexts of hundreds of tokens: copying is learned much sooner than with 10,000 or more."""

_INITIAL_SCALE = 0.7
"""Standard deviation of the random weights, times the square root of the width. The customary 0.02 at any width is
far too little for a narrow model: at 128 it needs twice the optimizer steps to the same loss."""


_WIDE = 4
"""From how many times the width of the model on a vocabulary is dealt with in chunks; below, chunks cost more time than
they save memory."""


@dataclass(frozen=True)
class Precision:
    """The types that a model is trained in."""

    compute: torch.dtype
    master: torch.dtype
    """Of the weights that the optimizer moves, of its averages, and of the sums of gradients over workers."""


PRECISIONS: Mapping[str, Precision] = {
    "bf16": Precision(torch.bfloat16, torch.float32),
    "float32": Precision(torch.float32, torch.float32),
    "float64": Precision(torch.float64, torch.float64),
}


class CausalLoss(nn.Module):
    """A causal language model that returns its loss, so that logits never leave the sharded module.

    Only the positions that are learned meet the vocabulary, and in chunks: the logits of a batch never exist at once.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model
        """As transformers makes it: ``model.model`` gives the hidden states, ``model.lm_head`` the logits."""
        stay_within_documents(model)

    def forward(self, batch: Batch) -> Tensor:
        """The sum of the cross-entropies, in nats, of the batch's learned tokens, each as often as it counts: a scalar,
        at least float32."""
        hidden = self.model.model(**batch.inputs, use_cache=False).last_hidden_state
        learned = batch.labels != IGNORED
        weights = None if batch.weights is None else batch.weights[learned]
        return sum_of_losses(hidden[learned], self.model.lm_head.weight, batch.labels[learned], weights)


def sum_of_losses(hidden: Tensor, vocabulary: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The cross-entropies of `labels` [tokens] against ``hidden @ vocabulary.T``, summed: a scalar, at least float32.

    `hidden` is [tokens, width], `vocabulary` [words, width], `weights` [tokens] what each counts; None: 1.
    """
    words, width = vocabulary.shape
    at_once = positions_at_once(len(hidden), width, words) if words >= _WIDE * width else None
    # torch sums in the type of what it is given: in bfloat16, 300 losses come out one percent off. Per token they
    # are right, at the price of computing the logits a second time for the gradient.
    apart = hidden.dtype == torch.bfloat16 or weights is not None
    losses = cross_entropies(hidden, vocabulary, labels, at_once=at_once, reduction="none" if apart else "sum")
    wide = torch.promote_types(losses.dtype, torch.float32)
    if weights is not None:
        losses = losses.to(wide) * weights.to(wide)
    return losses.sum(dtype=wide)


@dataclass(frozen=True)
class Blueprint:
    """A model that is nowhere yet: what it is made of, and where its weights are."""

    source: RandomModel | str
    """A random model, a folder or a hub name."""
    architecture: PretrainedConfig
    precision: Precision
    lora: Lora | None
    seed: int
    revision: str | None = None
    """Of a hub name."""

    def _own(self) -> PretrainedConfig:
        """A copy for transformers, which writes the type it builds in over the one that the model is exported in."""
        return copy.deepcopy(self.architecture)

    def empty(self) -> nn.Module:
        """The model with weights that have shapes and no memory (torch's meta device), and adapters where asked for.

        What is trained has the master precision; frozen weights have the computation's, which is all they are used in.
        Raises StepError when no layer is named as the adapters' targets.
        """
        with parameters_without_memory():
            model: Any = AutoModelForCausalLM.from_config(self._own(), dtype=self.precision.master)
        model.tie_weights()
        if self.lora is not None:
            attach(self.lora, model)
            for weight in model.parameters():
                if not weight.requires_grad:
                    weight.data = weight.data.to(self.precision.compute)
        whole: nn.Module = model
        return whole

    def values(self, model: nn.Module, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """The weights that :meth:`empty`'s `model` begins with, whole, one by one, on `device`.

        Worker 0 reads them; elsewhere they are memory of the same shape and type, for it to be sent to. Called by all
        workers. Raises StepError when they cannot be had.
        """
        weights = self._weights() if dist.get_rank() == 0 else None
        for name, weight in list(model.named_parameters()):
            if weights is None:
                yield name, torch.empty(weight.shape, dtype=weight.dtype, device=device)
            else:
                yield name, weights.read(name, weight.shape).to(device, weight.dtype)

    def _weights(self) -> Weights:
        if isinstance(self.source, RandomModel):
            weights: Weights = MadeWeights(self._random())
        else:
            weights = StoredWeights(stored_weights(self.source, self.revision))
        return weights if self.lora is None else AdaptedWeights(weights, self.seed)

    def _random(self) -> nn.Module:
        torch.manual_seed(self.seed)
        model: nn.Module = AutoModelForCausalLM.from_config(self._own(), dtype=torch.float32)
        return model


def stored_weights(source: str, revision: str | None = None) -> Path:
    """The folder with the weights of a model: `source` itself, or what is downloaded of a hub name, once per machine.

    Raises StepError where it cannot be had.
    """
    if Path(source).is_dir():
        return Path(source)
    files = ["*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=files))
    except (OSError, ValueError) as error:
        asked = f" at {revision}" if revision else ""
        raise StepError(f"model: {source!r}{asked} cannot be downloaded ({_first_line(error)})") from error


def draw(source: RandomModel | str, tokenizer: PreTrainedTokenizerBase, config: FinetuneConfig) -> Blueprint:
    """The blueprint of the model that `config` trains. Raises StepError when it cannot be known or trained."""
    if isinstance(source, RandomModel):
        architecture = random_architecture(source, tokenizer)
    else:
        try:
            architecture = AutoConfig.from_pretrained(source, revision=config.revision)
        except (OSError, ValueError) as error:
            raise StepError(f"model: {source!r} cannot be loaded ({_first_line(error)})") from error
    precision = PRECISIONS[config.precision]
    return Blueprint(source, architecture, precision, config.lora, config.seed, config.revision)


def set_buffers(module: nn.Module, buffers: Mapping[str, Tensor], device: torch.device) -> None:
    """Puts `buffers`, by name, into `module`, on `device`: what moves or converts a module takes them along."""
    for name, value in buffers.items():
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, value.to(device))


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers that are sharded one by one. Raises StepError for an architecture that has none where others do."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise StepError(f"model: {type(model).__name__} has no decoder layers: give a decoder-only language model")
    return layers


def random_architecture(source: RandomModel, tokenizer: PreTrainedTokenizerBase) -> Qwen2Config:
    """The layers of a random model: heads of a size that every engine supports, embeddings that are tied."""
    heads = source.hidden_size // HEAD_SIZE
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=source.hidden_size,
        intermediate_size=2 * source.hidden_size,
        num_hidden_layers=source.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=source.context,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        tie_word_embeddings=True,
        initializer_range=_INITIAL_SCALE / source.hidden_size**0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
