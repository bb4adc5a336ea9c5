"""What was thought, as text, of every sample of a sweep with one policy, in the order in which samples are written."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.evaluate.run import Sweep
from jobs.evaluate.sweep.grown import branches_of
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, leaf
from jobs.evaluate.traces.files import Index, MovedFile, read_tokens


def decoded(sweep: Sweep) -> Iterator[str]:
    """Of a sweep that is all in the store. Raises DamagedFile where it is not any more."""
    index = Index(sweep.folder, report=print)
    for question in sweep.questions:
        (policy,) = question.policies
        for unit in question.units:
            try:
                yield _thought(sweep, index, unit, policy)
            except MovedFile:  # another sweep has merged it into another file
                index.refresh()
                yield _thought(sweep, index, unit, policy)


def _thought(sweep: Sweep, index: Index, unit: Unit, policy: Policy) -> str:
    known = index.unit(unit.item, unit.sample)
    end = leaf(branches_of(sweep.replica.trees[unit.tree]), policy, unit.room, known.extent)
    if end.answer is None:
        return ""
    path = end.answer.branch
    tokens: list[int] = []
    for depth in range(len(path) + 1):
        if depth:
            tokens += sweep.replica.forcing.injected[path[depth - 1]]
        rows = [row for row in known.rows if row.key == Key(path[:depth], "thinking")]
        pieces = zip(rows, read_tokens(index.places(rows)), strict=True)
        stretch = [token for _, part in sorted((row.start, part) for row, part in pieces) for token in part]
        reached = (
            end.thinking_tokens - len(tokens)
            if depth == len(path)
            else known.extent(Key(path[:depth], "thinking")).length
        )
        tokens += stretch[:reached]
    return sweep.prompter.text(tokens)
