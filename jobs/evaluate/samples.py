"""Turns finished trees into one graded row per item, sample and policy. Decodes nothing, so it can be redone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.grading import grade
from jobs.evaluate.ledger import Ledger
from jobs.evaluate.policies import Policy
from jobs.evaluate.prompts import Prompter, Unit
from jobs.evaluate.tasks import Item, Task
from jobs.evaluate.trace_files import Index, read_tokens
from jobs.evaluate.traces import Resolved, Row
from jobs.evaluate.tree import Key, Tree, leaf

UNITS_AT_ONCE = 256
"""Units whose answers are in memory together; their rows are written as one row group."""

SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("sample", pa.int32()),
        ("policy", pa.string()),
        ("thinking_tokens", pa.int32()),
        ("injected_tokens", pa.int32()),
        ("answer_tokens", pa.int32()),
        ("thinking_end", pa.string()),
        ("answer_end", pa.string()),
        ("extensions_used", pa.int32()),
        ("extensions_skipped", pa.int32()),
        ("continued", pa.bool_()),
        ("answer", pa.string()),
        ("task", pa.string()),
        ("gold", pa.string()),
        ("extracted", pa.string()),
        ("rule", pa.string()),
        ("verdict", pa.string()),
    ]
)


@dataclass(frozen=True)
class Question:
    """A unit with what is asked in it."""

    task: Task
    item: Item
    unit: Unit


def write_samples(
    path: Path,
    questions: Sequence[Question],
    policies: Sequence[Policy],
    tree: Tree,
    prompter: Prompter,
    index: Index,
) -> int:
    """Writes a row per question and policy, in their order, to a file that appears whole.

    Returns the tokens that running each policy by itself would have decoded. Raises DamagedFile.
    """
    alone = 0
    temporary = path.with_name(f".{path.name}")
    try:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for begin in range(0, len(questions), UNITS_AT_ONCE):
                rows: list[dict[str, Any]] = []
                for question, answers, known in _with_answers(questions[begin : begin + UNITS_AT_ONCE], index):
                    for ledger in _ledgers(question, policies, tree, prompter, answers, known):
                        alone += ledger.thinking_tokens - ledger.injected_tokens + ledger.answer_tokens
                        graded = grade(question.task, ledger)
                        row = asdict(ledger) | {"task": graded.task, "gold": graded.gold}
                        rows.append(
                            row | {"extracted": graded.extracted, "rule": graded.rule, "verdict": graded.verdict}
                        )
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return alone


def _with_answers(
    questions: Sequence[Question], index: Index
) -> Iterator[tuple[Question, dict[Key, list[int]], Resolved]]:
    """Each question with the tokens of its answers. They are read in the order in which they lie in the files."""
    resolved = [index.unit(question.unit.item, question.unit.sample) for question in questions]
    wanted = [
        (place, number, row) for number, known in enumerate(resolved) for row, place in _answer_rows(known, index)
    ]
    wanted.sort(key=lambda entry: entry[0])
    stretches: list[dict[Key, list[tuple[int, tuple[int, ...]]]]] = [{} for _ in questions]
    tokens = read_tokens(place for place, _, _ in wanted)
    for (_, number, row), stretch in zip(wanted, tokens, strict=True):
        stretches[number].setdefault(row.key, []).append((row.start, stretch))
    for question, found, known in zip(questions, stretches, resolved, strict=True):
        answers = {key: [token for _, part in sorted(parts) for token in part] for key, parts in found.items()}
        yield question, answers, known


def _answer_rows(known: Resolved, index: Index) -> Iterator[tuple[Row, tuple[str, int, int]]]:
    rows = [row for row in known.rows if row.key.kind != "thinking"]
    yield from zip(rows, index.places(rows), strict=True)


def _ledgers(
    question: Question,
    policies: Sequence[Policy],
    tree: Tree,
    prompter: Prompter,
    answers: dict[Key, list[int]],
    known: Resolved,
) -> Iterator[Ledger]:
    """The account of every policy. Policies that share an answer share its text."""
    unit = question.unit
    texts: dict[Key, tuple[str, bool]] = {}
    for policy in policies:
        end = leaf(tree, policy, unit.room, known.extent)
        text, continued = "", False
        if end.answer is not None:
            if end.answer not in texts:
                tokens = answers.get(end.answer, [])[: end.answer_tokens]
                forced = end.answer.kind == "forced"
                texts[end.answer] = prompter.answer("forced" if forced else "natural", tokens), prompter.reopens(tokens)
            text, continued = texts[end.answer]
        yield Ledger(
            item=question.item.id,
            sample=unit.sample,
            policy=policy.name,
            thinking_tokens=end.thinking_tokens,
            injected_tokens=end.injected_tokens,
            answer_tokens=end.answer_tokens,
            thinking_end=end.thinking_end,
            answer_end=end.answer_end,
            extensions_used=end.extensions_used,
            extensions_skipped=end.extensions_skipped,
            continued=continued,
            answer=text,
        )
