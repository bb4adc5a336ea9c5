"""Random probes: traces of a few tokens that end by themselves somewhere, or nowhere."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from jobs.evaluate.stopping.probes import Probes, Reals


@st.composite
def probes(draw: st.DrawFn, items: int = 4, samples: int = 4, columns: int = 6) -> Probes:
    """What a sweep may have: after its end, a trace has its last answer at every probe."""
    shape = tuple(draw(st.integers(1, most)) for most in (items, samples, columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    end = rng.integers(0, shape[2], shape[:2])
    last = np.minimum(np.arange(shape[2]), end[:, :, None])
    answer = np.take_along_axis(rng.integers(-1, 3, shape), last, axis=2)
    thinking = np.cumsum(rng.integers(1, 9, shape), axis=2)
    return Probes(
        thinking=np.take_along_axis(thinking, last, axis=2),
        answer_tokens=np.take_along_axis(rng.integers(0, 5, shape), last, axis=2),
        answer=answer,
        correct=answer == 1,
        live=np.arange(shape[2]) < end[:, :, None],
        signals={name: np.take_along_axis(values, last, axis=2) for name, values in _signals(rng, shape).items()},
    )


def _signals(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Reals]:
    return {
        "waits": np.cumsum(rng.integers(0, 2, shape), axis=2).astype(float),
        "logprob": np.log(rng.choice([0.1, 0.5, 0.9, 1.0], shape)),
        "entropy": -np.log(rng.choice([0.1, 0.5, 0.9, 1.0], shape)),
        "confidence": np.minimum.accumulate(rng.integers(1, 9, shape).astype(float), axis=2),
    }
