"""How tokens are drawn, as an experiment file says it: the fields, and what of them cannot be meant. Light."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.evaluate.engines.recommended import NothingRecommended, read
from jobs.evaluate.engines.registry import ENGINES
from orchestrator.job.config import Problem

if TYPE_CHECKING:  # which has these fields
    from jobs.evaluate.config import EvaluateConfig

SAMPLING: dict[str, float] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
"""The fields that say how, with what they are where they are left out."""


def contradiction(config: EvaluateConfig) -> str | None:
    """What of the fields cannot be meant, in a line; None where all can."""
    for name, usual in SAMPLING.items():
        value = getattr(config, name)
        if config.sampling is not None and name in config.model_fields_set:
            return f"{name}: is set by sampling: recommended too: leave out one of the two"
        if config.greedy and name in ("top_p", "top_k", "min_p") and value != usual:
            return f"{name}: {value} needs a temperature above 0: greedy decoding does not use it"
        lacks = name not in ("temperature", "top_p") and name not in config.engine_kind.sampling
        if lacks and value != usual and config.chat is None:
            able = " and ".join(each for each in ENGINES if name in ENGINES[each].sampling)
            return (
                f"{name}: engine {config.engine_name} does not have it for whole traces: leave it out, or take {able}"
            )
    return None


def unrecommended(config: EvaluateConfig) -> Iterator[Problem]:
    """A checkpoint on this machine that does not say what ``sampling: recommended`` asks it for."""
    if config.sampling is not None and config.model_folder is not None:
        try:
            read(config.model_folder)
        except NothingRecommended as error:
            yield Problem(("sampling",), f"{config.sampling}: {error}")
