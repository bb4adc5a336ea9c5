"""The tree of one search, as the page shows it: each step with its score, what became of it, and which traces voted.

It is the tree of branches that the viewer draws of any sample (:mod:`jobs.evaluate.report.trees`): a step is a branch
that hangs on the step before it, and a trace that the search kept is an answer at its last step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.evaluate.run import Sweep
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.search import Forest, Found, SearchLeaf, SearchPolicy, as_score, score_key
from jobs.evaluate.sweep.tree import ANSWERS, Key
from jobs.evaluate.traces.files import Index, read_tokens
from jobs.evaluate.traces.segments import Resolved

UNKNOWN = (
    "Its searches are not in the store as this version would do them: their scores are under another name, or gone. "
    "What they came to is in the account."
)


def add(
    record: dict[str, Any],
    forest: Forest,
    units: Sequence[Unit],
    sample: int,
    rows: Sequence[Mapping[str, Any]],
    sweep: Sweep,
    index: Index,
) -> None:
    """Adds to `record` the steps and answers of the searches that `rows` of one sample are of. Where a search is not
    all known, it says so, and the rest is drawn."""
    numbers = {row["policy"]: number for number, row in enumerate(rows)}
    for policy in forest.policies:
        if policy.name not in numbers:
            continue
        repeat, number = (sample, None) if policy.elects else divmod(sample, policy.width)
        unit = next(unit for unit in units if unit.sample == repeat)
        known = index.unit(unit.item, unit.sample)
        try:
            outcome = forest.found(policy, unit.room, known.extent)
        except ValueError:
            record["note"] = UNKNOWN
            continue
        if number is not None:  # one trace of many that stand each for itself
            outcome = Found(outcome.nodes[number : number + 1], outcome.leaves[number : number + 1])
        if not outcome.nodes:  # the prompt left no room for a step
            continue
        drawing = _Drawing(record, forest, unit, known, sweep, index)
        drawing.add(policy, outcome, numbers[policy.name], rows[numbers[policy.name]])


class _Drawing:
    """One search under way into a record."""

    def __init__(self, record: dict[str, Any], forest: Forest, unit: Unit, known: Resolved, sweep: Sweep, index: Index):
        self._record = record
        self._forest = forest
        self._unit = unit
        self._known = known
        self._sweep = sweep
        self._index = index

    def add(self, policy: SearchPolicy, outcome: Found, number: int, row: Mapping[str, Any]) -> None:
        """The steps of a search and its answers; `number` is that of its `row`."""
        branches, answers = self._record["branches"], self._record["answers"]
        places = {path: len(branches) + place for place, path in enumerate(outcome.nodes)}
        leaves = {leaf.path: leaf for leaf in outcome.leaves}
        texts = self._texts(
            [*(Key(path, "thinking") for path in outcome.nodes), *(leaf.answer for leaf in outcome.leaves)]
        )
        elected = self._elected(outcome.leaves, texts, row)
        first = len(branches)
        for path in outcome.nodes:
            length, ended = self._known.extent(Key(path, "thinking"))
            before = sum(self._known.extent(Key(path[:depth], "thinking")).length for depth in range(1, len(path)))
            said = self._sweep.prompter.text(texts[Key(path, "thinking")])
            branches.append(
                {
                    "parent": places.get(path[:-1]),
                    "string": None,
                    "wish": None,
                    "start": before,
                    "tokens": length,
                    "ended": ended,
                    "cuts": [before + length] if path in leaves else [],
                    "parts": [said, ""] if path in leaves else [said],
                    "search": number,
                    "score": as_score(self._known.extent(score_key(path, self._forest.scorer)).length),
                    "children": sum(other[:-1] == path for other in outcome.nodes),
                }
            )
        for leaf in outcome.leaves:
            answers.append(
                {
                    "branch": places[leaf.path],
                    "at": leaf.thinking_tokens,
                    "end": leaf.end,
                    "text": self._answer(leaf, texts),
                    "policies": [number],
                    "score": leaf.score,
                    "elected": leaf is elected,
                }
            )
        searches = self._record.setdefault("searches", [])
        searches.append({"row": number, "vote": policy.vote, "first": first, "steps": len(outcome.nodes)})

    def _elected(
        self, leaves: Sequence[SearchLeaf], texts: Mapping[Key, list[int]], row: Mapping[str, Any]
    ) -> SearchLeaf | None:
        """The one that stands for the answer, which is what its row has of it."""
        same = (leaf for leaf in leaves if (self._answer(leaf, texts), leaf.score) == (row["answer"], row["score"]))
        return next(same, None)

    def _answer(self, leaf: SearchLeaf, texts: Mapping[Key, list[int]]) -> str:
        said: str = self._sweep.prompter.answer(leaf.answer.closing, texts[leaf.answer][: self._unit.room.answer])
        return said

    def _texts(self, keys: Sequence[Key]) -> dict[Key, list[int]]:
        """The tokens of each."""
        wanted: dict[Key, list[tuple[int, tuple[int, ...]]]] = {key: [] for key in keys}
        rows = [row for row in self._known.rows if row.key in wanted and row.key.kind in ("thinking", *ANSWERS)]
        for row, tokens in zip(rows, read_tokens(self._index.places(rows)), strict=True):
            wanted[row.key].append((row.start, tokens))
        return {key: [token for _, part in sorted(parts) for token in part] for key, parts in wanted.items()}
