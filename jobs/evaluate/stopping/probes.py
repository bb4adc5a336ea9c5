"""What rules look at: the answers that a sweep had forced along its traces, as matrices, and what a rule makes of them.

A *probe* is an answer that was forced where thinking had so many tokens. The last of a trace's probes is none: it is
the answer to all of its thinking. All matrices are ``[items, samples, probes]``, probes in the order of their tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Reals = NDArray[np.float64]

Matrix = NDArray[Any]
"""Any of them."""

SILENT = -1
"""Stands for no answer."""


@dataclass(frozen=True)
class Probes:
    """Of the items of one task."""

    thinking: Ints
    """Tokens of thinking at the probe."""
    answer_tokens: Ints
    """Tokens of the answer there: what the probe costs."""
    answer: Ints
    """Which answer it is, among those to its item; :data:`SILENT` for none. Those of one meaning are one."""
    correct: Bools
    live: Bools
    """Whether thinking could go on from there: it had not ended by itself, nor had the budget or the context."""
    signals: Mapping[str, Reals] = field(default_factory=dict)
    """What was kept besides, by name: see :attr:`jobs.evaluate.stopping.rule.Rule.needs`."""

    def of(self, columns: Sequence[int] | Ints) -> Probes:
        """As if only some of the probes had been made. The last of them is the end of every trace."""
        live = self.live[:, :, columns].copy()
        live[:, :, -1] = False
        return self.each(lambda matrix: matrix[:, :, columns], live)

    def each(self, change: Callable[[Matrix], Matrix], live: Bools) -> Probes:
        """With every matrix but `live` changed in one way."""
        return Probes(
            thinking=change(self.thinking),
            answer_tokens=change(self.answer_tokens),
            answer=change(self.answer),
            correct=change(self.correct),
            live=live,
            signals={name: change(values) for name, values in self.signals.items()},
        )


@dataclass(frozen=True)
class Stops:
    """What a rule comes to, ``[items, runs]``: a run is a sample, or several that the rule looked at together."""

    sample: Ints
    """Whose answer is given."""
    probe: Ints
    """The column of that answer."""
    thinking: Ints
    """Tokens of thinking, of all samples of the run, and those of probes that did not end a trace."""
    answers: Ints
    """Tokens of the answers with which its samples ended."""
    looked_at: Ints
    """Samples."""


def at(matrix: Matrix, column: Ints) -> Matrix:
    """The values of ``[items, samples, probes]`` in one column each, ``[items, samples]``."""
    return np.take_along_axis(matrix, column[:, :, None], axis=2)[:, :, 0]
