"""Low-rank adapters: attached by peft to the linear layers that the config names, merged into them at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from torch import Tensor, nn

from jobs.finetune.config import Lora
from orchestrator.job.errors import StepError


def attach(lora: Lora, model: nn.Module) -> None:
    """Freezes `model` and puts adapters beside its targets. Raises StepError where nothing is named so."""
    # Takes seconds to import.
    from peft import LoraConfig, inject_adapter_in_model

    wanted = LoraConfig(
        r=lora.rank, lora_alpha=cast(int, lora.alpha), lora_dropout=lora.dropout, target_modules=list(lora.targets)
    )
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if unknown := [target for target in lora.targets if target.rpartition(".")[2] not in linear]:
        raise StepError(
            f"lora.targets: the model has no linear layer {unknown[0]!r}: it has {', '.join(sorted(linear))}"
        )
    inject_adapter_in_model(wanted, model)


def merged(weights: Iterable[tuple[str, Tensor]], lora: Lora) -> Iterator[tuple[str, Tensor]]:
    """The weights of the model without adapters that computes the same: ``W + alpha / rank · B A``, float32 or wider.

    `weights` are by name, with those of one layer next to each other, as a model lists them.
    """
    frozen: dict[str, Tensor] = {}
    first: dict[str, Tensor] = {}
    for name, weight in weights:
        layer, _, rest = name.partition(".lora_A.")
        if rest:
            first[layer] = weight
            continue
        layer, _, rest = name.partition(".lora_B.")
        if rest:
            change = (weight @ first.pop(layer)) * (lora.alpha / lora.rank)
            yield f"{layer}.weight", frozen.pop(layer).to(change.dtype) + change
            continue
        layer, _, rest = name.partition(".base_layer.")
        if rest == "weight":
            frozen[layer] = weight
        elif rest:
            yield f"{layer}.{rest}", weight
        else:
            yield name, weight
