"""MFU: the share of a card's peak that learning takes, by what a model of this architecture needs at least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cluster.catalogue import machine
from jobs.architecture import Architecture, UnknownArchitecture, from_config
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.planning.roofline import flops
from jobs.transformers_classes import PretrainedConfig

_CARDS = {
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA B200": "b200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA L40S": "l40s",
}
"""Cards of the catalogue by the names that CUDA gives them. Variants with other rates (PCIe, NVL) have other names."""


@dataclass(frozen=True)
class Utilisation:
    """Turns the time of a step into a share of the peak."""

    architecture: Architecture
    peak: float
    """Floating-point operations per second of one worker's card."""
    adapters: bool

    def mfu(self, lengths: Sequence[int], seconds: float, workers: int) -> float:
        """Of a step that learned from samples of these `lengths`, in tokens, on so many workers."""
        tokens = sum(lengths)
        # Attention grows with the square of a length: of the mean that has the same sum of squares.
        mean = sum(length * length for length in lengths) / tokens
        return flops(self.architecture, tokens, mean, adapters=self.adapters) / (seconds * workers * self.peak)


def utilisation(architecture: PretrainedConfig, config: FinetuneConfig, device: torch.device) -> Utilisation | None:
    """None where the peak is not known: on other cards, on CPUs, in other precisions than bf16, of other families."""
    if device.type != "cuda" or config.precision != "bf16":
        return None
    card = _CARDS.get(torch.cuda.get_device_name(device))
    try:
        shapes = from_config(architecture.to_dict())
    except UnknownArchitecture:
        return None
    return None if card is None else Utilisation(shapes, machine(card).card.tflops * 1e12, config.lora is not None)
