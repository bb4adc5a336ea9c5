"""One sample's tree of traces, as the page shows it: what was thought on each branch, where it was cut, what followed.

Traces are token ids in the store; they become text here, with the sweep's own tokenizer. A tree has the branches that
its sweep's policies walk and no more, though the store may know further. Without the traces (a model that cannot be
loaded here, a store that was cleaned) the answers are still told, from the graded samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from jobs.evaluate.report import search_trees
from jobs.evaluate.run import Sweep
from jobs.evaluate.samples import tries
from jobs.evaluate.sweep.grown import branches_of
from jobs.evaluate.sweep.policy import Root
from jobs.evaluate.sweep.prompts import Prompter, Unit
from jobs.evaluate.sweep.search import Forest
from jobs.evaluate.sweep.tree import BranchPath, Key, Leaf, leaf
from jobs.evaluate.traces.files import DamagedFile, Index, MovedFile, read_tokens
from jobs.evaluate.traces.segments import Resolved

SampleRow = Mapping[str, Any]
"""A row of ``samples.parquet``."""
TreeRecord = dict[str, Any]
"""Plain values, for JSON."""


class Trees:
    """Reads the trees of one sweep."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        self._index = Index(sweep.folder, report=print)
        self._questions: dict[tuple[str, str], list[Any]] = {}
        for question in sweep.questions:
            self._questions.setdefault((question.task.name, question.item.id), []).append(question)

    def read(self, task: str, item: str, sample: int, rows: Sequence[SampleRow]) -> TreeRecord:
        """The tree of one sample; `rows` are its policies'. Falls back to :func:`without_traces`."""
        try:
            try:
                return self._read(task, item, sample, rows)
            except MovedFile:  # a sweep that runs has merged it into another
                self._index.refresh()
                return self._read(task, item, sample, rows)
        except (DamagedFile, ValueError):  # what is missing of a tree makes its leaves undefined
            return without_traces(rows, "Its traces are not in the store, or not whole; these are its answers.")

    def _read(self, task: str, item: str, sample: int, rows: Sequence[SampleRow]) -> TreeRecord:
        record: TreeRecord = {"branches": [], "answers": [], "rows": [_account(row) for row in rows]}
        by_policy = {row["policy"]: number for number, row in enumerate(rows)}
        for question in self._questions[task, item]:
            grown = self._sweep.replica.trees[question.units[0].tree]
            if isinstance(grown, Forest):
                search_trees.add(record, grown, question.units, sample, rows, self._sweep, self._index)
            elif any(unit.sample == sample for unit in question.units):  # searches may have been repeated more often
                self._add(record, question, sample, rows, by_policy)
        return record

    def _add(
        self, record: TreeRecord, question: Any, sample: int, rows: Sequence[SampleRow], by_policy: Mapping[str, int]
    ) -> None:
        """The tree of one prompt: questions that wish for different lengths have one each."""
        number = next(place for place, unit in enumerate(question.units) if unit.sample == sample)
        unit: Unit = question.units[number]
        known = self._index.unit(unit.item, unit.sample)
        tree = branches_of(self._sweep.replica.trees[unit.tree])
        taken = [policy for policy in question.policies if not policy.tries]
        leaves = {policy: leaf(tree, policy, unit.room, known.extent) for policy in taken}
        branches = _Branches(record, known, unit, self._sweep, self._index)
        sentence = question.policies[0].root.sentence
        for policy, end in leaves.items():
            if policy.name in by_policy:
                branches.place(end, rows[by_policy[policy.name]], by_policy[policy.name])
        ends_at = {policy.asked: end for policy, end in leaves.items()}
        for policy in self._sweep.replayed if question.policies[0].root == Root() else ():
            row = rows[by_policy[policy.name]] if policy.name in by_policy else None
            if row is not None and policy.runs_of == 1 and row["asked"] in ends_at:
                branches.place(ends_at[row["asked"]], row, by_policy[policy.name])
        branches.finish(sentence)
        for policy in question.policies:
            if policy.tries:
                ends = [
                    leaf(tree, policy, each.room, self._index.unit(each.item, each.sample).extent)
                    for each in question.units
                ]
                looked_at = tries(ends, number, policy.tries)
                record["rows"][by_policy[policy.name]]["taken"] = question.units[looked_at[-1]].sample


class _Branches:
    """The branches of one prompt's tree, under way."""

    def __init__(self, record: TreeRecord, known: Resolved, unit: Unit, sweep: Sweep, index: Index):
        self._record = record
        self._known = known
        self._unit = unit
        self._prompter: Prompter = sweep.prompter
        self._injected = branches_of(sweep.replica.trees[unit.tree]).injected
        self._index = index
        self._paths: dict[BranchPath, int] = {}
        """How many own tokens of each branch its policies reach."""
        self._answers: dict[Key | tuple[str, int], TreeRecord] = {}

    def place(self, end: Leaf, row: SampleRow, number: int) -> None:
        """Puts a policy where its thinking ended."""
        key = end.answer or Key((), "thinking", end.thinking_tokens)
        path = key.branch
        for depth in range(len(path)):
            self._reach(path[:depth], self._known.extent(Key(path[:depth], "thinking")).length)
        self._reach(path, key.cut - self._position(path))
        answer = self._answers.setdefault(
            key,
            {
                "path": path,
                "at": key.cut,
                "end": end.thinking_end,
                "text": None if end.answer is None else row["answer"],
                "policies": [],
            },
        )
        answer["policies"].append(number)

    def finish(self, wish: str | None) -> None:
        """Adds branches and answers to the record."""
        first = len(self._record["branches"])
        order = sorted(self._paths, key=lambda path: (len(path), list(self._paths).index(path)))
        numbers = {path: first + number for number, path in enumerate(order)}
        texts = self._texts(order)
        for path in order:
            extent = self._known.extent(Key(path, "thinking"))
            self._record["branches"].append(
                {
                    "parent": numbers[path[:-1]] if path else None,
                    "string": path[-1] if path else None,
                    "wish": None if path else wish,
                    "start": self._position(path),
                    "tokens": self._paths[path],
                    "ended": extent.ended and extent.length == self._paths[path],
                    **self._cut_up(path, texts[path]),
                }
            )
        for answer in sorted(self._answers.values(), key=lambda answer: answer["at"]):
            answer["branch"] = numbers[answer.pop("path")]
            self._record["answers"].append(answer)

    def _reach(self, path: BranchPath, tokens: int) -> None:
        self._paths[path] = max(tokens, self._paths.get(path, 0))

    def _position(self, path: BranchPath) -> int:
        """Where a branch's own tokens begin, in thinking tokens."""
        thought = sum(self._known.extent(Key(path[:depth], "thinking")).length for depth in range(len(path)))
        return thought + sum(self._injected[string] for string in path)

    def _texts(self, paths: Sequence[BranchPath]) -> dict[BranchPath, list[int]]:
        """The tokens of each branch, as far as it is reached."""
        rows = [row for row in self._known.rows if row.key.kind == "thinking" and row.key.path in self._paths]
        parts: dict[BranchPath, list[tuple[int, tuple[int, ...]]]] = {path: [] for path in paths}
        for row, tokens in zip(rows, read_tokens(self._index.places(rows)), strict=True):
            parts[row.key.path].append((row.start, tokens))
        return {
            path: [token for _, tokens in sorted(pieces) for token in tokens][: self._paths[path]]
            for path, pieces in parts.items()
        }

    def _cut_up(self, path: BranchPath, tokens: Sequence[int]) -> TreeRecord:
        """The branch's text in the parts between its ``cuts``, which are positions in thinking tokens."""
        start = self._position(path)
        cuts = sorted({answer["at"] for answer in self._answers.values() if answer["path"] == path})
        whole = self._prompter.text(tokens)
        # A token may end inside a character, so a cut's text is as much of the whole as its own tokens agree with.
        ends = [_common(self._prompter.text(tokens[: cut - start]), whole) for cut in cuts]
        bounds = [0, *ends, len(whole)]
        return {"cuts": cuts, "parts": [whole[low:high] for low, high in pairwise(bounds)]}


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common from the beginning."""
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


def without_traces(rows: Sequence[SampleRow], why: str) -> TreeRecord:
    """What the graded samples alone say: the answers, each with its policies, and no thinking; `why` is for readers."""
    answers: dict[str, TreeRecord] = {}
    for number, row in enumerate(rows):
        answers.setdefault(row["answer"], {"text": row["answer"], "policies": []})["policies"].append(number)
    return {"note": why, "branches": [], "answers": list(answers.values()), "rows": [_account(row) for row in rows]}


def _account(row: SampleRow) -> TreeRecord:
    """A row of the samples, but for what is said elsewhere."""
    kept = (
        *("policy", "thinking_tokens", "injected_tokens", "answer_tokens", "thinking_end", "answer_end"),
        *("extensions_skipped", "continued", "tries", "extracted", "rule", "verdict"),
    )
    return {name: row[name] for name in kept}
