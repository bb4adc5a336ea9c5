"""How long thinking and answers are expected to be, before any trace is there: what a plan of a sweep rests on.

Nobody knows beforehand how long a model thinks, so an assumption is made and said: the mean that the s1 paper has for
the benchmark, or the one that the experiment gives, spread as thinking is spread. Log-normal lengths with
:data:`SPREAD` and the paper's mean of 6,109 are cut by its budgets of 2,000, 4,000 and 8,000 to 1,962, 3,517 and 5,112
in the mean; its scaling figure has 2,000, 3,933 and 5,300.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

from jobs.evaluate.sweep.policy import TOKENS_PER_STEP
from jobs.evaluate.sweep.tree import Extent, Key, Known
from jobs.forecasts import ThinkingForecast

SPREAD = 0.65
"""Standard deviation of the logarithm of a trace's length."""

DRAWS = 16
"""Lengths that stand for all items: equally likely quantiles, scaled to the mean."""

ENDLESS = 2**40
"""Tokens after which a trace ends that never ends by itself."""


def scaled(lengths: ThinkingForecast, natural: float) -> ThinkingForecast:
    """With another natural length, given by the experiment, and extensions in proportion."""
    extension = lengths.extension * natural / lengths.natural
    return replace(lengths, natural=natural, extension=extension, source="resources.expected_thinking_tokens")


def unmarked(lengths: ThinkingForecast) -> ThinkingForecast:
    """Of a model whose thinking is not told apart: all that it writes is its answer."""
    return replace(lengths, natural=0, extension=0)


def draws(lengths: ThinkingForecast) -> Iterator[Known]:
    """Traces that stand for all, each as likely as the others: how far each of its pieces goes."""
    quantiles = [math.exp(SPREAD * NormalDist().inv_cdf((each + 0.5) / DRAWS)) for each in range(DRAWS)]
    mean = sum(quantiles) / DRAWS
    for quantile in quantiles:
        yield trace(round(lengths.natural * quantile / mean), round(lengths.extension), round(lengths.answer))


def trace(natural: int, extension: int, answer: int) -> Known:
    """A trace whose thinking ends by itself after `natural` tokens, and again after `extension` more each time."""

    def extent(key: Key) -> Extent:
        if key.kind == "thinking":
            return Extent(extension if key.path else natural, True)
        if key.kind == "step":
            return Extent(TOKENS_PER_STEP * key.cut, True)
        if key.kind in ("stop", "rule"):  # nobody knows what a model writes: thinking is taken to end by itself
            return Extent(natural, False)
        return Extent(answer, True)

    return extent


def published(natural: float) -> ThinkingForecast:
    """Those of a benchmark whose mean thinking tokens without forcing were published.

    Extensions as in the scaling figure, where two add 547 tokens to 6,109; answers of 400 tokens are a guess.
    """
    return ThinkingForecast(natural, 0.045 * natural, 400, "the s1 paper")


ASSUMED = replace(published(4000), source="a guess")
