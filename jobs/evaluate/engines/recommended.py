"""``sampling: recommended``: what a checkpoint's own generation_config.json says of sampling. Light: plans say it too.

Taken is what the file says, and nothing that a library would add to it: one that samples without a temperature means 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.evaluate.engines.protocol import Sampling
from orchestrator.job.local_files import content

FILE = "generation_config.json"
MOST = 1 << 20
"""Bytes of it."""
_NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_RANGES = {
    "temperature": (0, math.inf),
    "top_p": (0, 1),
    "top_k": (0, math.inf),
    "min_p": (0, 1),
    "repetition_penalty": (1e-9, math.inf),
}


class NothingRecommended(Exception):
    """A checkpoint does not say how to sample, or says what cannot be meant. One line."""


def read(folder: Path) -> Sampling:
    """What the checkpoint in `folder` recommends. Raises NothingRecommended."""
    try:
        said = json.loads(content(folder / FILE, MOST))
    except (ValueError, RecursionError):
        raise NothingRecommended(
            f"{folder} has no {FILE} that can be read: set temperature and so on yourself"
        ) from None
    if not isinstance(said, dict):
        raise NothingRecommended(f"{folder / FILE} is not a JSON object: set temperature and so on yourself")
    return recommended(said)


def recommended(said: Mapping[str, Any]) -> Sampling:
    """What a generation_config.json recommends. Raises NothingRecommended."""
    values = {name: said[name] for name in _NAMES if said.get(name) is not None}
    for name, value in values.items():
        low, high = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise NothingRecommended(f"its {FILE} has {name}: {value!r}, which makes no sense: set your own")
    if said.get("do_sample") is False:
        return Sampling(repetition_penalty=values.get("repetition_penalty", 1.0))
    if not values and not said.get("do_sample"):
        raise NothingRecommended(f"its {FILE} says nothing about sampling: set temperature and so on yourself")
    values.setdefault("temperature", 1.0)
    if "top_k" in values:
        values["top_k"] = int(values["top_k"])
    return Sampling(**values)


def described(sampling: Sampling) -> str:
    """``temperature 0.6, top_p 0.95, top_k 20``, in one line."""
    return ", ".join(f"{name} {value:g}" for name, value in sampling.identity.items())
