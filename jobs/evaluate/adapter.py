"""A LoRA adapter on a base model, as a sweep's ``model`` has it: ``{base: …, adapter: …}``. Light.

An adapter is a folder as peft writes it, or such a repository of the hub. Engines lay it on the base's weights; all
else that the model is, its tokenizer, its context and its chat template, is the base's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, PlainSerializer, PlainValidator, Tag

from jobs.architecture import MOST_CONFIG, UnknownArchitecture, cached_snapshot, find
from orchestrator.job.config import Problem
from orchestrator.job.local_files import LocalPath, content, folder_problem, locate
from orchestrator.job.references import ModelSource, Reference, is_path, parse_reference
from orchestrator.job.strict_model import StrictModel

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""For which vLLM has room; an adapter gets the next."""

_LAYER = re.compile(r"\.layers\.(\d+)\.self_attn\.q_proj\.lora_A\.")


def _adapter_source(value: object) -> LocalPath | str:
    if isinstance(value, LocalPath):
        return value
    if not isinstance(value, str) or not value or parse_reference(value) is not None:
        raise ValueError(f"{value!r}: must be text: an adapter's folder, or its name on Hugging Face's hub")
    return locate(value) if is_path(value) else value


AdapterSource = Annotated[LocalPath | str, PlainValidator(_adapter_source), PlainSerializer(str)]


class AdaptedModel(StrictModel):
    """A base with an adapter on it."""

    base: ModelSource = Field(description="${step}, a folder in Hugging Face's layout, or a model's name on its hub")
    adapter: AdapterSource = Field(description="a folder as peft saves it, or such a repository's name on the hub")

    def __str__(self) -> str:
        return f"{self.base} with {self.adapter}"

    def problems(self) -> Iterator[Problem]:
        """What is wrong with an adapter on this machine: files that are not there, a kind that no engine has, or
        weights for another base."""
        folder = self.folder
        if folder is None:
            return
        named = repr(str(self.adapter))
        at = ("model", "adapter")
        if problem := folder_problem(folder):
            yield Problem(at, f"{named} {problem}: give a folder as peft saves an adapter")
        elif missing := [name for name in (SETTINGS, WEIGHTS) if not (folder / name).is_file()]:
            yield Problem(at, f"{named} has no {missing[0]}: give a folder as peft saves an adapter")
        elif problem := unfit(folder, self.base):
            yield Problem(at, f"{named} {problem}")

    @property
    def folder(self) -> Path | None:
        """The adapter on this machine; None for a name of the hub that was never fetched here."""
        return self.adapter.path if isinstance(self.adapter, LocalPath) else cached_snapshot(self.adapter, SETTINGS)


@dataclass(frozen=True)
class Adapter:
    """An adapter as engines are told of it."""

    source: str
    """A folder, or a name on the hub."""
    revision: str | None
    """The hub's commit; None for a folder."""
    rank: int


def unfit(folder: Path, base: Reference | LocalPath | str) -> str | None:
    """Why the adapter in `folder` is not one for `base`, in words that go after its name; None where it may be."""
    try:
        settings = json.loads(content(folder / SETTINGS, MOST_CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        return f"has a {SETTINGS} that cannot be read ({error}): save the adapter again"
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        return f"is an adapter of kind {kind}, and engines have LORA: merge it into its base, and give that"
    if not isinstance(rank := settings.get("r"), int) or not 1 <= rank <= RANKS[-1]:
        return f"has rank {rank!r}, and engines take 1 … {RANKS[-1]}: merge it into its base, and give that"
    trained_on = settings.get("base_model_name_or_path")
    if isinstance(base, str) and isinstance(trained_on, str) and _is_another(trained_on, base):
        return f"was trained on {trained_on!r}, and base is {base!r}: give the base that it was trained on"
    if isinstance(base, Reference):
        return None
    try:
        shapes = find(base)
    except UnknownArchitecture:
        return None
    try:
        widths = _widths(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        return f"has a {WEIGHTS} that cannot be read ({error}): save the adapter again"
    wrong = {width for width in widths.values() if width != shapes.hidden_size}
    if wrong:
        return (
            f"is for models of hidden size {min(wrong)}, and {base} has {shapes.hidden_size}: give the base that it "
            "was trained on"
        )
    if widths and max(widths) >= shapes.layers:
        return (
            f"is for models of {max(widths) + 1} layers or more, and {base} has {shapes.layers}: give the base that it "
            "was trained on"
        )
    return None


def rank_of(folder: Path) -> int:
    """Its rank; the largest, where parts have their own."""
    settings = json.loads((folder / SETTINGS).read_text())
    return max([int(settings["r"]), *map(int, (settings.get("rank_pattern") or {}).values())])


def _widths(weights: Path) -> dict[int, int]:
    """Of each layer whose queries it adapts, how wide the layer's input is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            return {
                int(found[1]): file.get_slice(name).get_shape()[1]
                for name in list(file.keys())
                if (found := _LAYER.search(name))
            }
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _is_another(trained_on: str, base: str) -> bool:
    """Whether two names of the hub are of two models. One model has several owners there, by the same name."""
    on_hub = trained_on.count("/") == 1 and not trained_on.startswith((".", "/", "~"))
    return on_hub and trained_on.partition("/")[2].casefold() != base.partition("/")[2].casefold()


def _which(model: Any) -> str:
    return "an adapter" if isinstance(model, AdaptedModel | Mapping) else "a source"


SweepModel = Annotated[
    Annotated[AdaptedModel, Tag("an adapter")] | Annotated[ModelSource, Tag("a source")], Discriminator(_which)
]
