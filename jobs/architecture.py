"""The shapes of a language model's weights, from its config.json alone.

What a step takes in memory and time follows from them, before a weight is downloaded or torch is imported: nothing here
needs more than the standard library and, for names, pyyaml and pydantic. Known are the dense decoder-only families
whose layers have the layout of Llama's: attention with grouped keys and values, and a gated MLP.

    find("Qwen/Qwen2.5-32B-Instruct").parameters == 32_763_876_352
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.job.local_files import LocalPath, content, locate
from orchestrator.job.references import is_path

Shape = tuple[int, ...]

_KNOWN = Path(__file__).with_name("architectures.yaml")

_LARGEST = 2**31 - 1
"""Of anything that a config.json counts."""

MOST_CONFIG = 4 << 20
"""Bytes of a config.json."""

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Values of config.json's ``model_type`` that are understood."""


class UnknownArchitecture(Exception):
    """The shapes cannot be told; the message says why, in a few words."""


@dataclass(frozen=True)
class Architecture:
    """A decoder-only model: embedding, equal layers, a norm, and a head that may be the embedding."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    """The head is the embedding: one matrix."""
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False
    """Queries and keys are normalised head by head."""
    context: int | None = None
    """Positions; None where it is not said."""
    quantized_bits: float | None = None
    """Of each number in the layers' matrices, scales included, where the checkpoint is quantised."""

    @property
    def linears(self) -> Mapping[str, Shape]:
        """The matrices of one layer by name, each [out, in]."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "q_proj": (queries, self.hidden_size),
            "k_proj": (keys, self.hidden_size),
            "v_proj": (keys, self.hidden_size),
            "o_proj": (self.hidden_size, queries),
            "gate_proj": (self.intermediate_size, self.hidden_size),
            "up_proj": (self.intermediate_size, self.hidden_size),
            "down_proj": (self.hidden_size, self.intermediate_size),
        }

    @property
    def layer_shapes(self) -> tuple[Shape, ...]:
        """All weights of one layer."""
        biased = {"q_proj", "k_proj", "v_proj"} if self.qkv_bias else set()
        biased |= {"o_proj"} if self.output_bias else set()
        biased |= {"gate_proj", "up_proj", "down_proj"} if self.mlp_bias else set()
        biases = tuple((shape[0],) for name, shape in self.linears.items() if name in biased)
        norms = ((self.hidden_size,), (self.hidden_size,), *(((self.head_size,),) * 2 if self.head_norms else ()))
        return (*self.linears.values(), *biases, *norms)

    @property
    def root_shapes(self) -> tuple[Shape, ...]:
        """All weights outside the layers: embedding, head where it is another matrix, last norm."""
        matrix = (self.vocabulary, self.hidden_size)
        return (matrix, *(() if self.tied else (matrix,)), (self.hidden_size,))

    @property
    def layer_parameters(self) -> int:
        """Numbers in one layer."""
        return sum(map(math.prod, self.layer_shapes))

    @property
    def root_parameters(self) -> int:
        """Numbers outside the layers."""
        return sum(map(math.prod, self.root_shapes))

    @property
    def head_parameters(self) -> int:
        """Numbers in the matrix that gives the logits."""
        return self.vocabulary * self.hidden_size

    @property
    def parameters(self) -> int:
        """Numbers in the model; tied weights count once."""
        return self.layers * self.layer_parameters + self.root_parameters

    def stored(self, size: float) -> float:
        """Bytes of the weights as an engine holds them, `size` of each number that is not quantised."""
        quantized = self.layers * sum(map(math.prod, self.linears.values())) if self.quantized_bits else 0
        return (self.parameters - quantized) * size + quantized * (self.quantized_bits or 0) / 8

    @property
    def multiplied(self) -> int:
        """Numbers that a token meets in matrix products: the layers' and the head's, not the embedding's."""
        return self.layers * sum(map(math.prod, self.linears.values())) + self.head_parameters


def from_config(config: Mapping[str, Any]) -> Architecture:
    """The shapes that a config.json describes. Raises UnknownArchitecture for another family, or a field missing."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnknownArchitecture(f"its model_type is {family!r}, and known are {', '.join(FAMILIES)}")
    try:
        hidden, heads = _size(config["hidden_size"]), _size(config["num_attention_heads"])
        bias = bool(config.get("attention_bias", False))
        positions = config.get("max_position_embeddings")
        return Architecture(
            layers=_size(config["num_hidden_layers"]),
            hidden_size=hidden,
            intermediate_size=_size(config["intermediate_size"]),
            heads=heads,
            kv_heads=_size(config.get("num_key_value_heads") or heads),
            head_size=_size(config.get("head_dim") or hidden // heads),
            vocabulary=_size(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=family == "qwen2" or bias,
            output_bias=bias,
            mlp_bias=bool(config.get("mlp_bias", False)),
            head_norms=family == "qwen3",
            context=None if positions is None else _size(positions),
            quantized_bits=_quantized_bits(config.get("quantization_config")),
        )
    except KeyError as error:
        raise UnknownArchitecture(f"its config.json has no {error.args[0]}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UnknownArchitecture(f"its config.json makes no sense ({error})") from None


def _quantized_bits(said: Any) -> float | None:
    """Bits of a weight, with its share of its group's scale (16 bits) and zero, from config.json's own words."""
    if said is None:
        return None
    method = said["quant_method"]
    if method == "compressed-tensors":
        groups = [group["weights"] for group in said["config_groups"].values()]
        bits, size = max((_size(each["num_bits"]), each.get("group_size")) for each in groups)
    elif method in ("awq", "gptq"):
        bits, size = _size(said["bits"]), said.get("group_size")
    elif method == "fp8":
        return 8.0
    else:
        raise UnknownArchitecture(f"it is quantised by {method!r}, and known are fp8, awq, gptq, compressed-tensors")
    zeros = 0 if method == "compressed-tensors" else bits
    return bits + ((16 + zeros) / size if size and size > 0 else 0)


_STATES = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "kda", "gdn")
"""Kinds of layers, as ``layer_types`` names them, that keep a state in place of keys and values."""
_SIGNS = ("mamba_d_state", "mamba_state_dim", "ssm_state_size", "hybrid_override_pattern", "linear_num_value_heads")
"""Keys of a config.json that only models with such layers have."""


def keeps_states(model: str | LocalPath) -> bool:
    """Whether layers of a model that is on this machine keep a state of what they have read: GDN, Mamba and the like.

    Such a state is of one position, so what is cached of a prefix is of use where it ended, and seldom in its middle.
    """
    config = _at_hand(model)
    text = config.get("text_config")
    parts = [config, *([text] if isinstance(text, dict) else [])]
    kinds = {kind for part in parts for kind in part.get("layer_types") or () if isinstance(kind, str)}
    return bool(kinds & set(_STATES)) or any(sign in part for part in parts for sign in _SIGNS)


LANGUAGE_MODELS = {
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma4_text": "Gemma4ForCausalLM",
    "mistral": "MistralForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
}
"""Of language models within multimodal ones, by ``model_type``: vLLM's class, where it takes the text alone."""
IMPORTING_TORCHVISION = ("qwen3_5_text", "qwen3_5_moe_text")
"""Of which vLLM's class of the text alone imports torchvision too."""


def needs_torchvision(model: str | LocalPath) -> bool:
    """Whether vLLM cannot import a class for a model that is on this machine unless torchvision is there."""
    config = _at_hand(model)
    multimodal = any(isinstance(config.get(tower), dict) for tower in ("vision_config", "audio_config"))
    text = config.get("text_config")
    kind = (text if isinstance(text, dict) else config).get("model_type")
    return kind in IMPORTING_TORCHVISION or (multimodal and kind not in LANGUAGE_MODELS)


def _at_hand(model: str | LocalPath) -> Mapping[str, Any]:
    """What its config.json says; nothing where this machine does not have it."""
    folder = folder_of(model)
    try:
        return {} if folder is None else _config(folder / "config.json")
    except UnknownArchitecture:
        return {}


def _size(value: Any) -> int:
    size = int(value)
    if not 0 < size <= _LARGEST:
        raise ValueError(f"{size} is not the size of a model")
    return size


def find(model: str | LocalPath) -> Architecture:
    """The shapes of a model in a folder, or of a name on the hub: known here, or in the hub's cache of this machine.

    Raises UnknownArchitecture where none of them tells.
    """
    folder = folder_of(model)
    if folder is not None:
        return _read(folder / "config.json")
    assert isinstance(model, str)
    try:
        return from_config(_known()[model])
    except KeyError:
        raise UnknownArchitecture("it is not on this machine, and no architecture that is known by name") from None


def folder_of(model: str | LocalPath) -> Path | None:
    """Where a model's small files are on this machine, if they are: its folder, or the hub's cache of it."""
    if isinstance(model, str) and is_path(model):
        model = locate(model)
    return model.path if isinstance(model, LocalPath) else cached_snapshot(model)


def _read(path: Path) -> Architecture:
    return from_config(_config(path))


def _config(path: Path) -> Mapping[str, Any]:
    try:
        read = content(path, MOST_CONFIG)
    except ValueError as error:
        raise UnknownArchitecture(f"{path} {error}") from None
    try:
        config = json.loads(read)
    except (ValueError, RecursionError):
        raise UnknownArchitecture(f"{path} is not JSON") from None
    if not isinstance(config, dict):
        raise UnknownArchitecture(f"{path} is not a JSON object")
    return config


def cached_snapshot(name: str, file: str = "config.json") -> Path | None:
    """The snapshot of a hub name that huggingface_hub left on this machine, when `file` is in it."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = hub / f"models--{name.replace('/', '--')}"
    try:
        snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    return snapshot if (snapshot / file).is_file() else None


@functools.cache
def _known() -> Mapping[str, Mapping[str, Any]]:
    """The config.json of each known name."""
    import yaml

    return {name: entry["config"] for entry in yaml.safe_load(_KNOWN.read_text()) for name in entry["names"]}
