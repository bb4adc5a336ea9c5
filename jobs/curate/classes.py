"""The classes that a model must choose from: a list of one's own, or those that come with the project. Light."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field

from orchestrator.job.references import ModelSource
from orchestrator.job.strict_model import StrictModel

MOST = 1000
SHIPPED = ("msc",)


@lru_cache
def shipped(name: str) -> Mapping[str, str]:
    """By label, what each class is about."""
    classes: dict[str, str] = yaml.safe_load(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    return classes


def _classes(value: Any) -> Any:
    """By label, what each is about: empty where only labels are given."""
    if isinstance(value, str):
        if value not in SHIPPED:
            raise ValueError(
                f"{value!r} is not a list that comes with the project: {', '.join(SHIPPED)}, or give your own"
            )
        return dict(shipped(value))
    if isinstance(value, list):
        labels = [label.strip() if isinstance(label, str) else label for label in value]
        if twice := [label for number, label in enumerate(labels) if label in labels[:number]]:
            raise ValueError(f"{twice[0]!r} is given twice: give each class a name of its own")
        value = {label: "" for label in labels if isinstance(label, str)} if all(map(_is_text, labels)) else value
    if not isinstance(value, dict) or not all(map(_is_text, value)):
        raise ValueError("classes are msc, a list of names, or {name: what it is about}")
    if lines := [label for label in value if not label.isprintable()]:
        raise ValueError(f"{lines[0]!r} is not a name: give each class one line of characters that can be seen")
    folded = [label.strip().casefold() for label in value]
    if twice := [label for number, label in enumerate(folded) if label in folded[:number]]:
        raise ValueError(f"{twice[0]!r} is given twice, in other letters: give each class a name of its own")
    if not 2 <= len(value) <= MOST:
        raise ValueError(f"{len(value)} classes: give from 2 to {MOST}")
    return {label.strip(): about for label, about in value.items()}


def _is_text(label: Any) -> bool:
    return isinstance(label, str) and bool(label.strip())


class Classify(StrictModel):
    """A model that says of each question which of a list of classes it is of. What it says is always one of them."""

    model: ModelSource = Field(description="${step}, a folder in Hugging Face's layout, or a model's name on its hub")
    revision: str | None = Field(default=None, min_length=1, description="of a model on the hub")
    classes: Annotated[dict[str, str], BeforeValidator(_classes)] = Field(
        description="msc, a list of names, or {name: what it is about}"
    )
