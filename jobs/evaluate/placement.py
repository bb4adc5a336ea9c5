"""Whether what a step asks of its engine goes with that engine, and with where it runs. Light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.evaluate.engines.registry import ENGINES, gpus_problem

if TYPE_CHECKING:  # which has these fields
    from jobs.evaluate.config import EvaluateConfig

_SERVED = {
    "served_model": "the name by which the server knows the model",
    "resources.server": "give at least {url: http://…/v1}",
}


def cannot_be_asked(config: EvaluateConfig) -> str | None:
    """What the engine cannot do that is asked of it, in a line; None where it can do all."""
    if config.batch_invariant and not (config.engine_kind.batch_invariant and config.resources.gpus):
        able = " and ".join(name for name in ENGINES if ENGINES[name].batch_invariant)
        return (
            f"batch_invariant: true is for {able} on GPUs, and this is {config.engine_name} with "
            f"{config.resources.gpus} GPUs: set resources.gpus, or leave it out"
        )
    if config.confidence and not (config.engine_kind.likelihoods and config.chat is None):
        able = " and ".join(name for name in ENGINES if ENGINES[name].likelihoods)
        what = f"engine {config.engine_name} gives no log-probabilities"
        return f"confidence: {what}: leave it out, or take {able}"
    return None


def misplaced(config: EvaluateConfig) -> str | None:
    """What is wrong with where it runs, in a line: a server is said where one decodes, and what a server decides is
    not said here too."""
    if config.model is None and config.chat is None:
        return "has no model, which is needed"
    if config.adapted and not config.engine_kind.adapters:
        able = " and ".join(name for name in ENGINES if ENGINES[name].adapters)
        return f"model.adapter: is for {able}, and the engine is {config.engine_name}: leave it out"
    if problem := gpus_problem(config.engine, config.resources.gpus):
        return f"resources.gpus: {problem}"
    served = {"served_model": config.served_model, "resources.server": config.resources.server}
    if not config.engine_kind.served:
        for name, value in (served | {"chat": config.chat}).items():
            if value is not None:
                return f"{name}: engine {config.engine} has no server: leave it out, or set engine: openai"
        return None
    for name, value in served.items():
        if value is None:
            return f"engine: {config.engine} needs {name}: {_SERVED[name]}"
    if config.dtype != "auto":
        return f"dtype: {config.dtype} is not for engine {config.engine} to choose: set it on the server"
    return None
