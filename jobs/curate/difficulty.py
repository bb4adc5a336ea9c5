"""How hard questions are, by what other steps' models made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.curate.config import Difficulty
from jobs.curate.row import CurateRow
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Curves
from orchestrator.job.references import Reference

ItemVerdicts = Mapping[str, tuple[int, int]]
"""By item: samples that are correct, and all that could be graded."""


class Judged:
    """Says of a row why it is too easy or too hard."""

    def __init__(self, asked: Difficulty, context: StepContext):
        """Raises StepError where a sweep has not the policy that is asked for."""
        self._wrong_in = {str(each): _verdicts(each, asked.policy, context) for each in asked.wrong_in}
        self._accuracy = asked.accuracy
        self._of: ItemVerdicts = {}
        if asked.accuracy is not None:
            self._of = _verdicts(asked.accuracy.of, asked.accuracy.policy, context)

    def find(self, row: CurateRow) -> str | None:
        """None where it is as hard as asked for."""
        for name, verdicts in self._wrong_in.items():
            if row.id not in verdicts:
                return f"{name} was not asked it, or no sample could be graded"
            if verdicts[row.id][0]:
                return f"{name} is right"
        if self._accuracy is None:
            return None
        if row.id not in self._of:
            return f"{self._accuracy.of} was not asked it, or no sample could be graded"
        right, graded = self._of[row.id]
        low, high = self._accuracy.between
        if right < low * graded:
            return f"{self._accuracy.of} is right in less than {low:g} of its samples"
        return f"{self._accuracy.of} is right in more than {high:g} of its samples" if right > high * graded else None


def _verdicts(sweep: Reference, policy: str, context: StepContext) -> ItemVerdicts:
    return verdicts(context.take(sweep, Curves).folder / "samples.parquet", policy, str(sweep))


def verdicts(samples: Path, policy: str, name: str) -> ItemVerdicts:
    """What a policy of a sweep came to, by item. A sample without an answer is wrong, and one that could not be graded
    does not count. Raises StepError where the sweep has no such policy."""
    table = pq.read_table(samples, columns=["item", "policy", "verdict"])
    known = pc.unique(table["policy"]).to_pylist()
    if policy not in known:
        raise StepError(f"difficulty: {name} has no policy {policy!r}: it has {', '.join(known[:8])}")
    of_policy = table.filter(pc.equal(table["policy"], policy))
    counts: dict[str, tuple[int, int]] = {}
    for item, verdict in zip(of_policy["item"].to_pylist(), of_policy["verdict"].to_pylist(), strict=True):
        if verdict in ("correct", "wrong", "no_answer"):
            right, graded = counts.get(item, (0, 0))
            counts[item] = right + (verdict == "correct"), graded + 1
    return counts
