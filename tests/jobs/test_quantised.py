"""What a quantised checkpoint is reckoned to take, against the bytes of one on disk.

The tensors are those of each method's own format, with nothing in them: AutoAWQ's and GPTQ's packed words with scales
and zeros of each group, DeepSeek's fp8 with a scale of each block, and compressed-tensors' two usual schemes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.architecture import Architecture, find
from jobs.evaluate.engines.model import _folder_identity

CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "dtype": "bfloat16",
}
GROUP = 128
Tensors = Mapping[str, torch.Tensor]


def awq(rows: int, columns: int) -> Tensors:
    groups = columns // GROUP
    return {
        "qweight": torch.zeros(columns, rows // 8, dtype=torch.int32),
        "qzeros": torch.zeros(groups, rows // 8, dtype=torch.int32),
        "scales": torch.zeros(groups, rows, dtype=torch.float16),
    }


def gptq(rows: int, columns: int) -> Tensors:
    groups = columns // GROUP
    return {
        "qweight": torch.zeros(columns // 8, rows, dtype=torch.int32),
        "qzeros": torch.zeros(groups, rows // 8, dtype=torch.int32),
        "scales": torch.zeros(groups, rows, dtype=torch.float16),
        "g_idx": torch.zeros(columns, dtype=torch.int32),
    }


def fp8(rows: int, columns: int) -> Tensors:
    blocks = math.ceil(rows / 128), math.ceil(columns / 128)
    return {
        "weight": torch.zeros(rows, columns, dtype=torch.float8_e4m3fn),
        "weight_scale_inv": torch.zeros(blocks, dtype=torch.float32),
    }


def packed(rows: int, columns: int) -> Tensors:
    """compressed-tensors' W4A16."""
    return {
        "weight_packed": torch.zeros(rows, columns // 8, dtype=torch.int32),
        "weight_scale": torch.zeros(rows, columns // GROUP, dtype=torch.bfloat16),
        "weight_shape": torch.zeros(2, dtype=torch.int64),
    }


def channels(rows: int, columns: int) -> Tensors:
    """compressed-tensors' FP8 with a scale of each channel."""
    return {
        "weight": torch.zeros(rows, columns, dtype=torch.float8_e4m3fn),
        "weight_scale": torch.zeros(rows, 1, dtype=torch.bfloat16),
    }


def weights(**said: Any) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": said}}}


METHODS: dict[str, tuple[dict[str, Any], Callable[[int, int], Tensors]]] = {
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True}, awq),
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False}, gptq),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, fp8),
    "W4A16": (weights(num_bits=4, group_size=GROUP, strategy="group"), packed),
    "FP8": (weights(num_bits=8, group_size=None, strategy="channel"), channels),
}


def save(folder: Path, method: str | None) -> Architecture:
    """Writes a checkpoint whose layers are quantised, and the rest in bfloat16."""
    folder.mkdir()
    said, quantise = METHODS[method] if method else ({}, lambda rows, columns: {"weight": torch.zeros(rows, columns)})
    config = CONFIG | ({"quantization_config": said} if said else {})
    (folder / "config.json").write_text(json.dumps(config))
    shapes = find(str(folder))
    tensors = {f"root.{n}": torch.zeros(shape) for n, shape in enumerate(shapes.root_shapes)}
    for layer in range(shapes.layers):
        for name, shape in shapes.linears.items():
            tensors |= {f"{layer}.{name}.{part}": tensor for part, tensor in quantise(*shape).items()}
        others = list(shapes.layer_shapes)
        for shape in shapes.linears.values():
            others.remove(shape)
        tensors |= {f"{layer}.{n}": torch.zeros(shape) for n, shape in enumerate(others)}
    half = {
        name: each.bfloat16() if each.dtype == torch.float32 and "scale" not in name else each
        for name, each in tensors.items()
    }
    save_file({name: each.contiguous() for name, each in half.items()}, folder / "model.safetensors")
    return shapes


def bytes_on_disk(folder: Path) -> int:
    """Of the weights; the file's own header is no part of them."""
    file = folder / "model.safetensors"
    with file.open("rb") as stream:
        return file.stat().st_size - 8 - int.from_bytes(stream.read(8), "little")


@pytest.mark.parametrize("method", [None, *METHODS])
def test_the_weights_are_reckoned_as_large_as_they_are(method: str | None, tmp_path: Path) -> None:
    shapes = save(tmp_path / "model", method)
    assert shapes.stored(2) == pytest.approx(bytes_on_disk(tmp_path / "model"), rel=0.01)


def test_another_quantisation_of_the_same_model_is_another_model(tmp_path: Path) -> None:
    """By its weights, and by its config alone where those are of the same bytes."""
    for method in ("awq", "gptq", "fp8"):
        save(tmp_path / method, method)
    same = tmp_path / "same"
    same.mkdir()
    for file in ("config.json", "model.safetensors"):
        (same / file).write_bytes((tmp_path / "awq" / file).read_bytes())
    assert _folder_identity(same) == _folder_identity(tmp_path / "awq")
    said = json.loads((same / "config.json").read_text())
    said["quantization_config"]["group_size"] = 2 * GROUP  # as many bytes of JSON
    (same / "config.json").write_text(json.dumps(said))
    identities = [_folder_identity(tmp_path / name) for name in ("awq", "gptq", "fp8", "same")]
    assert len(set(identities)) == 4
