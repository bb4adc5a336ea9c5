"""All rows of a sweep that is decoded: those of its trees, and those of stopping rules that are replayed on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.samples import SampledPrompt, write_samples
from jobs.evaluate.stopping import replay, signals
from jobs.evaluate.sweep.grown import Grown
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.traces.files import Index


def write_rows(
    config: EvaluateConfig,
    samples: Path,
    questions: Sequence[SampledPrompt],
    trees: Sequence[Grown],
    prompter: Prompter,
    index: Index,
    grader: Grader,
) -> int:
    """Writes `samples`, and beside it the probes that rules look at. Returns the tokens that running each policy by
    itself would have decoded. Raises DamagedFile."""

    def of_rules() -> Iterator[pa.Table]:
        signals.add(samples, config.policies, questions, index)
        yield from replay.tables(config, samples)

    return write_samples(replay.files(config, samples), questions, trees, prompter, index, grader, of_rules)
