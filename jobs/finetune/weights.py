"""Where the weights of a model come from, one at a time: a safetensors folder, or a generator of random ones.

Only worker 0 reads, and no more than one weight at once: what it reads is dealt out to the workers before the next
(:func:`jobs.finetune.fsdp.fill`), so a model that no single machine could hold can be loaded.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from orchestrator.job.errors import StepError

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class Weights(Protocol):
    """The weights of a model by transformers' names."""

    def read(self, name: str, shape: torch.Size) -> Tensor:
        """The weight `name`, on the CPU, in the type it is stored in. Raises StepError unless it has that `shape`."""


class StoredWeights:
    """Those of a folder in Hugging Face's layout."""

    def __init__(self, folder: Path):
        """Reads the list of weights. Raises StepError for a folder without safetensors."""
        self._folder = folder
        self._files = _files(folder)

    def read(self, name: str, shape: torch.Size) -> Tensor:
        """Raises StepError where the folder has no such weight, or of another shape."""
        if name not in self._files:
            raise StepError(f"model: {str(self._folder)!r} lacks the weight {name}: give a whole causal language model")
        # Opened for each weight: mapped files would count as this process's memory for as long as they are open.
        with safe_open(self._folder / self._files[name], framework="pt") as file:
            weight: Tensor = file.get_tensor(name)
        if weight.shape != shape:
            raise StepError(
                f"model: {str(self._folder)!r} has {name} as {list(weight.shape)}, and its config.json asks for "
                f"{list(shape)}: give a folder whose files belong together"
            )
        return weight


class MadeWeights:
    """Those of a model that exists whole, in this process: one with random weights, which is small."""

    def __init__(self, model: nn.Module):
        self._weights = dict(model.named_parameters())

    def read(self, name: str, shape: torch.Size) -> Tensor:
        return self._weights[name].detach()


class AdaptedWeights:
    """Those of a model whose linear layers got adapters: drawn from `seed`, so that at first they change nothing.

    As peft initialises them: the first matrix uniform as a linear layer's weight, the second zero.
    """

    def __init__(self, stored: Weights, seed: int):
        self._stored = stored
        self._generator = torch.Generator().manual_seed(seed)

    def read(self, name: str, shape: torch.Size) -> Tensor:
        if ".lora_B." in name:
            return torch.zeros(shape)
        if ".lora_A." in name:
            return nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5), generator=self._generator)
        return self._stored.read(name.replace(".base_layer.", "."), shape)


def _files(folder: Path) -> dict[str, str]:
    """The file of each weight. Raises StepError where there is none, or where they are not what they should be."""
    try:
        if (folder / _INDEX).is_file():
            files: dict[str, str] = json.loads((folder / _INDEX).read_text())["weight_map"]
            return files
        with safe_open(folder / _WHOLE, framework="pt") as file:
            return dict.fromkeys(file.keys(), _WHOLE)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StepError(
            f"model: {str(folder)!r} has no readable safetensors ({reason}): save the model with save_pretrained"
        ) from error
