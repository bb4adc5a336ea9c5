"""What is worked out of each question by itself, a block of rows at a time: the part that runs beside itself.

Blocks are Arrow tables of :data:`ROWS`. A function of a block gives a smaller one, by row numbers, so that neither the
order in which blocks come back nor their sizes matter. On a cluster that is Ray Data (:func:`on_ray`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.collect.contamination import Answerbook, Contamination
from jobs.collect.near import FEWEST, bands, shingles
from jobs.collect.normal import figures, hashes, identity, words

ROWS = pa.schema(
    [
        ("number", pa.int64()),
        ("source", pa.string()),
        ("row", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("type", pa.string()),
        ("kept", pa.string()),
        ("unusable", pa.string()),
    ]
)
"""`number` counts the rows of all sources; `kept` is JSON."""

FEATURES = pa.schema(
    [
        ("number", pa.int64()),
        ("key", pa.uint64()),
        ("tested", pa.int32()),
        ("kind", pa.string()),
        ("shared", pa.string()),
        ("length", pa.int32()),
        ("similarity", pa.float32()),
        ("bands", pa.list_(pa.uint64())),
    ]
)
"""`key` is the identity, and `tested` to `similarity` a :class:`~jobs.collect.contamination.Contamination`, or null. A
question of few words has no bands."""

COMPARED_BY = pa.schema([("number", pa.int64()), ("shingles", pa.list_(pa.uint64())), ("figures", pa.string())])
"""What near duplicates are compared by."""

Block: TypeAlias = pa.Table
Function = Callable[[Block], Block]
Mapped = Callable[[Function], Iterator[Block]]
"""Gives a function's result for every block, in any order."""


@dataclass(frozen=True)
class Features:
    """Works out :data:`FEATURES` of a block."""

    book: Answerbook | None
    near: float | None

    def __call__(self, block: Block) -> Block:
        usable = block.filter(block["unusable"].is_null())
        questions = usable["question"].to_pylist()
        split = [words(question) for question in questions]
        hashed = [hashes(each) for each in split]
        keys = [identity(question) for question in questions]
        nothing: list[Contamination | None] = [None] * len(split)
        contaminations = nothing if self.book is None else self.book.find(split, hashed, keys)
        banded: list[Any] = [[]] * len(split)
        if self.near is not None:
            numbers = bands(hashed, self.near)
            banded = [row if len(each) >= FEWEST else [] for row, each in zip(numbers, split, strict=True)]
        contamination = {
            name: [None if each is None else getattr(each, name) for each in contaminations]
            for name in ("tested", "kind", "shared", "length", "similarity")
        }
        columns = {"number": usable["number"].to_pylist(), "key": [int(key, 16) for key in keys], **contamination}
        return pa.table({**columns, "bands": banded}, schema=FEATURES)


@dataclass(frozen=True)
class CompareBy:
    """Works out :data:`COMPARED_BY` of those rows of a block that are asked for."""

    asked: NDArray[np.int64]
    """Ascending."""

    def __call__(self, block: Block) -> Block:
        numbers = block["number"].to_numpy()
        there = np.isin(numbers, self.asked)
        questions = block.filter(pa.array(there))["question"].to_pylist()
        return pa.table(
            {
                "number": numbers[there],
                "shingles": [shingles(hashes(words(each))) for each in questions],
                "figures": [" ".join(figures(each)) for each in questions],
            },
            schema=COMPARED_BY,
        )


def blocks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[Block]:
    """`rows` as tables of at most `size`."""
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield pa.Table.from_pylist(batch, ROWS)
            batch = []
    if batch:
        yield pa.Table.from_pylist(batch, ROWS)


def on_ray(held: Sequence[Any]) -> Mapped:
    """Ray Data over blocks in Ray's object store, which spills them to disk where there are many."""
    import ray
    from ray.data import DataContext

    settings = DataContext.get_current()
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False

    def mapped(function: Function) -> Iterator[Block]:
        shared = ray.put(function)  # once, however many tasks there are
        data = ray.data.from_arrow_refs(list(held))
        done = data.map_batches(_call, fn_args=(shared,), batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
        yield from done.iter_batches(batch_size=None, batch_format="pyarrow")

    return mapped


def _call(block: Block, function: Any) -> Block:
    import ray

    return ray.get(function)(block)
