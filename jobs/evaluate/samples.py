"""Turns finished trees into one graded row per item, sample and policy. Decodes nothing, so it can be redone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.searched import Candidates, Slate
from jobs.evaluate.sweep.grown import Grown
from jobs.evaluate.sweep.ledger import Graded, Ledger
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Prompter, Unit
from jobs.evaluate.sweep.search import Forest
from jobs.evaluate.sweep.tree import ANSWERS, Key, Leaf, Tree, leaf
from jobs.evaluate.tasks import Item, Task
from jobs.evaluate.traces.files import DamagedFile, Index, MovedFile, read_tokens
from jobs.evaluate.traces.segments import Resolved, Row
from orchestrator.store.manifest import hashed_file

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
        ("asked", pa.int32()),
        ("tries", pa.int32()),
        ("answer", pa.string()),
        ("task", pa.string()),
        ("gold", pa.string()),
        ("extracted", pa.string()),
        ("rule", pa.string()),
        ("meaning", pa.string()),
        ("verdict", pa.string()),
        ("score", pa.float32()),
        ("scorer_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True)
class SampledPrompt:
    """One item as it is put to the model: the units sampled from that prompt, and the policies decoded on it."""

    task: Task
    item: Item
    units: tuple[Unit, ...]
    policies: tuple[Policy, ...]


def write_samples(
    files: Mapping[Path, Collection[str]],
    questions: Sequence[SampledPrompt],
    trees: Sequence[Grown],
    prompter: Prompter,
    index: Index,
    grader: Grader,
    more: Callable[[], Iterable[pa.Table]] = tuple,
) -> int:
    """Writes a row per question, sample and policy, in their order, to files that appear whole, each for the policies
    that are named with it; and to the first of them what is `more`, which is asked for once the others are there.

    Returns the tokens that running each policy by itself would have decoded. Raises DamagedFile.
    """
    alone = 0
    (first, of_first), *others = files.items()
    with samples_file(first) as add:
        with ExitStack() as stack:
            adding = [(add, of_first), *((stack.enter_context(samples_file(path)), names) for path, names in others)]
            for batch in _batches(questions):
                slates: list[Slate] = []
                for question, decoded in _decoded(batch, index):
                    for slate in _slates(question, decoded, trees, prompter):
                        alone += slate.tokens
                        slates.append(slate)
                graded = iter(grader.grade([(each.task, ledger) for each in slates for ledger in each.ledgers]))
                elected = [each.elected(list(islice(graded, len(each.ledgers)))) for each in slates]
                for add_to, names in adding:
                    add_to(table(each for each in elected if each.ledger.policy in names))
        for each in more():
            add(each)
    return alone


@contextmanager
def samples_file(path: Path, schema: pa.Schema = SCHEMA) -> Iterator[Callable[[pa.Table], None]]:
    """A file of rows that appears, whole, when the block ends without an error. Each call adds a row group."""
    temporary = path.with_name(f".{path.name}")
    try:
        with hashed_file(temporary) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            yield writer.write_table
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def table(graded: Iterable[Graded]) -> pa.Table:
    """Samples as rows."""
    return pa.Table.from_pylist([row(each) for each in graded], SCHEMA)


def row(graded: Graded) -> dict[str, Any]:
    """A sample as one row."""
    fields = asdict(graded)
    return {**fields.pop("ledger"), **fields}


def _batches(questions: Sequence[SampledPrompt]) -> Iterator[list[SampledPrompt]]:
    """Questions by :data:`UNITS_AT_ONCE` units; the samples of one stay together, as rejection sampling needs them."""
    batch: list[SampledPrompt] = []
    for question in questions:
        batch.append(question)
        if sum(len(each.units) for each in batch) >= UNITS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class _Decoded:
    """What a unit came to."""

    known: Resolved
    answers: dict[Key, list[int]]
    """Their tokens."""


def _decoded(questions: Sequence[SampledPrompt], index: Index) -> list[tuple[SampledPrompt, list[_Decoded]]]:
    """Each question with its units' answers. They are read in the order in which they lie in the files.

    Raises DamagedFile; where a file was only merged into another, they are read there.
    """
    while True:
        extents = [index.unit(unit.item, unit.sample).extents for question in questions for unit in question.units]
        try:
            return _read(questions, index)
        except MovedFile as error:
            index.refresh()
            units = (unit for question in questions for unit in question.units)
            if extents != [index.unit(unit.item, unit.sample).extents for unit in units]:
                raise DamagedFile(str(error)) from error


def _read(questions: Sequence[SampledPrompt], index: Index) -> list[tuple[SampledPrompt, list[_Decoded]]]:
    resolved = [index.unit(unit.item, unit.sample) for question in questions for unit in question.units]
    wanted = [
        (place, number, row) for number, known in enumerate(resolved) for row, place in _answer_rows(known, index)
    ]
    wanted.sort(key=lambda entry: entry[0])
    stretches: list[dict[Key, list[tuple[int, tuple[int, ...]]]]] = [{} for _ in resolved]
    tokens = read_tokens(place for place, _, _ in wanted)
    for (_, number, row), stretch in zip(wanted, tokens, strict=True):
        stretches[number].setdefault(row.key, []).append((row.start, stretch))
    units = (
        _Decoded(known, {key: [token for _, part in sorted(parts) for token in part] for key, parts in pieces.items()})
        for pieces, known in zip(stretches, resolved, strict=True)
    )
    return [(question, list(islice(units, len(question.units)))) for question in questions]


def _answer_rows(known: Resolved, index: Index) -> Iterator[tuple[Row, tuple[str, int, int]]]:
    rows = [row for row in known.rows if row.key.kind in ANSWERS]
    yield from zip(rows, index.places(rows), strict=True)


def _slates(
    question: SampledPrompt, decoded: Sequence[_Decoded], trees: Sequence[Grown], prompter: Prompter
) -> Iterator[Slate]:
    """What each sample and policy came to, in their order."""
    tree = trees[question.units[0].tree]
    if isinstance(tree, Forest):
        for unit, of_unit in zip(question.units, decoded, strict=True):
            for policy in tree.policies:
                known = Candidates(tree, unit, of_unit.known.extent, of_unit.answers, prompter)
                yield from known.slates(question.task, question.item.id, policy)
        return
    for ledger, tokens in _ledgers(question, decoded, tree, prompter):
        yield Slate(question.task, (ledger,), tokens)


def _ledgers(
    question: SampledPrompt, decoded: Sequence[_Decoded], tree: Tree, prompter: Prompter
) -> Iterator[tuple[Ledger, int]]:
    """The account of every sample and policy, and the tokens that the policy alone would have decoded for it.

    Policies that share an answer share its text.
    """
    ends = {
        policy: [
            leaf(tree, policy, unit.room, of_unit.known.extent)
            for unit, of_unit in zip(question.units, decoded, strict=True)
        ]
        for policy in question.policies
    }
    texts: dict[tuple[int, Key], tuple[str, bool]] = {}
    for number, unit in enumerate(question.units):
        for policy in question.policies:
            looked_at = tries(ends[policy], number, policy.tries)
            taken = looked_at[-1]
            end = ends[policy][taken]
            text, continued = "", False
            if end.answer is not None:
                if (taken, end.answer) not in texts:
                    tokens = decoded[taken].answers.get(end.answer, [])[: end.answer_tokens]
                    texts[taken, end.answer] = prompter.answer(end.answer.closing, tokens), prompter.reopens(tokens)
                text, continued = texts[taken, end.answer]
            ledger = Ledger(
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
                asked=policy.asked,
                tries=len(looked_at),
                answer=text,
            )
            looked = (ends[policy][each] for each in looked_at)
            yield ledger, sum(each.thinking_tokens - each.injected_tokens + each.answer_tokens for each in looked)


def tries(ends: Sequence[Leaf], first: int, most: int) -> list[int]:
    """The samples that a policy looks at, of which it takes the last; `ends` are those of all samples.

    Sampling again means going on to the next sample, and from the last to the first: each has its turn at being the
    first try, and as they are alike and independent, each row is what rejection sampling by itself might have given.
    """
    looked_at = [first]
    while len(looked_at) < most and ends[looked_at[-1]].thinking_end != "natural":
        looked_at.append((looked_at[-1] + 1) % len(ends))
    return looked_at
