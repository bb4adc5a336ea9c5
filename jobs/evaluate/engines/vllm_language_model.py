"""Has vLLM load the language model alone of a multimodal checkpoint, where torchvision is not installed.

vLLM's classes of multimodal models import torchvision, for images, and the package index has a build of it for CUDA and
none for CPUs. vLLM's classes of the language models within do without: they need the text's part of the configuration,
and the weights under the names that they have by themselves. vLLM's worker processes import this module for its loader.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from vllm.model_executor.model_loader import DefaultModelLoader, register_model_loader
from vllm.model_executor.models.utils import WeightsMapper

from jobs.architecture import LANGUAGE_MODELS
from jobs.evaluate.engines.protocol import EngineSpec
from jobs.transformers_classes import AutoConfig, PretrainedConfig

LOAD_FORMAT = "language_model"
WITHIN = {"model.language_model.": "model.", "language_model.": "", "lm_head.": "lm_head."}
"""How the names of the language model's weights begin in a checkpoint, and how by themselves. All others are those of
towers and projectors."""


def language_model_alone(spec: EngineSpec) -> dict[str, Any]:
    """vLLM's arguments for it; none where the model is all text, where vLLM has no such class, or with torchvision."""
    if find_spec("torchvision") is not None:
        return {}
    config = AutoConfig.from_pretrained(spec.model, revision=spec.revision)
    if text_of(config) is config:
        return {}
    return {
        "hf_overrides": text_of,
        "load_format": LOAD_FORMAT,
        "worker_extension_cls": f"{__name__}.{WithLoader.__name__}",
    }


def text_of(config: PretrainedConfig) -> PretrainedConfig:
    """The language model's part of `config`, with its class and how it is quantised; `config` where there is none."""
    text = config.get_text_config()
    if text is config or text.model_type not in LANGUAGE_MODELS:
        return config
    text.architectures = [LANGUAGE_MODELS[text.model_type]]
    if quantization := getattr(config, "quantization_config", None):
        text.quantization_config = quantization
    return text


def by_themselves(weights: Iterable[tuple[str, torch.Tensor]]) -> Generator[tuple[str, torch.Tensor], None, None]:
    """Those of the language model among `weights`, under the names that they have by themselves."""
    for name, weight in weights:
        prefix = next(filter(name.startswith, WITHIN), None)
        if prefix is not None:
            yield WITHIN[prefix] + name.removeprefix(prefix), weight


@register_model_loader(LOAD_FORMAT)
class LanguageModelLoader(DefaultModelLoader):
    """Reads a checkpoint's files as vLLM's own loader does, and hands on what is the language model's."""

    def __init__(self, load_config: Any):
        super().__init__(replace(load_config, load_format="hf"))

    def create_model(self, *arguments: Any, **named: Any) -> torch.nn.Module:
        """The model without weights; an adapter's names are of the whole, too."""
        model = super().create_model(*arguments, **named)
        model.hf_to_vllm_mapper = WeightsMapper(orig_to_new_prefix=WITHIN) | model.hf_to_vllm_mapper
        return model

    def get_all_weights(self, model_config: Any, model: torch.nn.Module) -> Generator[Any, None, None]:
        """Names and weights for `model`, one after another."""
        yield from by_themselves(super().get_all_weights(model_config, model))


class WithLoader:
    """Adds nothing to vLLM's worker, which has the loader by importing this."""
