"""What a chat server charges for a sweep, told before anything is asked: tokens that are expected, at its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.catalogue import in_usd
from orchestrator.job.estimate import Estimate

if TYPE_CHECKING:
    from jobs.evaluate.config import EvaluateConfig
    from jobs.evaluate.tasks.config import TaskConfig
    from jobs.forecasts import ThinkingForecast

PROMPT = 300
"""Tokens of a question, with what is written around it."""


def priced(
    config: EvaluateConfig,
    items: Callable[[TaskConfig], int | None],
    lengths: Callable[[TaskConfig], ThinkingForecast],
) -> Estimate:
    """The cost of asking a chat server for everything; that part of it is known already is not looked at."""
    server = config.resources.server
    price = None if server is None else server.price
    if price is None:
        return Estimate(
            "answered by a server, whose provider says what it costs: resources.server.price has the plan reckon it, "
            "and max_cost watch it"
        )
    prompts = tokens = 0.0
    words = []
    for task in config.tasks:
        count, known = items(task), lengths(task)
        if count is None:
            return Estimate("answered by a server; what it costs is not known before launch: how many items there are")
        requests = count * config.samples * len(config.policies)
        prompts += requests * PROMPT
        tokens += requests * (known.natural + known.answer)
        words.append(
            f"{task.name}: {requests:,} requests, {known.natural + known.answer:,.0f} tokens each ({known.source})"
        )
    usd = price.usd(prompts, tokens)
    total = f"{tokens:,.0f} tokens to decode and {prompts:,.0f} of prompts: about {in_usd(usd)}"
    return Estimate("answered by a server", usd=usd, tokens=tokens, remarks=(total, *words))
