"""Random probes: traces of a few tokens that end by themselves somewhere, or nowhere."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from jobs.evaluate.stopping.probes import Probes, Reals


@st.composite
def probes(draw: st.DrawFn, items: int = 4, samples: int = 4, columns: int = 6) -> Probes:
    """What a sweep may have: after its end, a trace has its last answer at every probe. Now and then nobody answers,
    all say the same, every item is like the first, and it is not known how sure the model was."""
    shape = tuple(draw(st.integers(1, most)) for most in (items, samples, columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    end = rng.integers(0, shape[2], shape[:2])
    last = np.minimum(np.arange(shape[2]), end[:, :, None])
    said = draw(st.sampled_from([(-1, 3), (-1, 3), (-1, 3), (-1, 0), (1, 2)]))
    answer = np.take_along_axis(rng.integers(*said, shape), last, axis=2)
    thinking = np.cumsum(rng.integers(1, 9, shape), axis=2)
    found = Probes(
        thinking=np.take_along_axis(thinking, last, axis=2),
        answer_tokens=np.take_along_axis(rng.integers(0, 5, shape), last, axis=2),
        answer=answer,
        correct=answer == 1,
        live=np.arange(shape[2]) < end[:, :, None],
        signals={name: np.take_along_axis(values, last, axis=2) for name, values in _signals(rng, shape).items()},
    )
    if not draw(st.integers(0, 4)):
        alike = np.zeros(shape[0], dtype=int)
        return found.each(lambda matrix: matrix[alike], found.live[alike])
    return found


def _signals(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Reals]:
    """A trace without a token of thinking says nothing of its confidence; neither does an answer without one."""
    found = {
        "logprob": np.log(rng.choice([0.1, 0.5, 0.9, 1.0], shape)),
        "entropy": -np.log(rng.choice([0.1, 0.5, 0.9, 1.0], shape)),
        "confidence_lowest": np.minimum.accumulate(rng.integers(1, 9, shape).astype(float), axis=2),
        **{f"confidence_{name}": rng.integers(1, 9, shape).astype(float) for name in ("bottom", "tail", "mean")},
    }
    unknown = rng.random(shape) < rng.choice([0, 0, 0.3, 1])
    silent = unknown.all(axis=2, keepdims=True) if rng.random() < 0.5 else unknown[:, :, :1]
    return {name: np.where(silent if "conf" in name else unknown, np.nan, values) for name, values in found.items()}
