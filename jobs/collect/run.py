"""The collect step: all rows of all sources, and what becomes of each.

Rows are read once, in this process, into blocks that Ray keeps. What is worked out of each question by itself runs on
them side by side; what comes back are numbers, a kilobyte a question, from which it is decided here who stays. The
stages, in their order: ``unusable`` rows, questions of a test (``contaminated``), ``duplicates``, ``near duplicates``,
and what is beyond a source's ``quota``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from jobs.collect.config import CollectConfig
from jobs.collect.contamination import Answerbook, Contamination, HeldOut
from jobs.collect.duplicates import Duplicate, alike, same
from jobs.collect.features import Block, Features, Mapped, blocks, on_ray
from jobs.collect.published import PublishedProcedure
from jobs.collect.sources import Collected, read
from jobs.evaluate.tasks.config import TaskConfig
from jobs.fates import DROPPED, Funnel
from jobs.made_dataset import Lines, describe, took
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError

BLOCK = 2000
"""Rows."""


TakenRows = Mapping[int, tuple[str, str, dict[str, Any]]]
"""What a stage drops, by row: the cause to count it by, why, and further fields of the row."""
Again = Callable[[], Iterator[Block]]
"""Gives all blocks once more."""


@dataclass
class Decided:
    """What was decided of all rows."""

    keys: NDArray[np.uint64]
    """[rows]: identities; 0 of unusable ones."""
    sources: Sequence[str]
    """[rows]"""
    funnel: Funnel
    dropped: dict[int, tuple[str, str, dict[str, Any]]] = field(default_factory=dict)
    """By row: the stage, why, and further fields."""
    also_in: dict[int, set[str]] = field(default_factory=dict)
    """By row that stays: the sources of those that it stands for."""

    def name(self, number: int) -> str:
        """A question's id."""
        return f"{int(self.keys[number]):016x}"

    def there(self) -> NDArray[np.int64]:
        """The rows that are left."""
        left = np.ones(len(self.keys), bool)
        left[list(self.dropped)] = False
        return np.flatnonzero(left)

    def drop(self, stage: str, taken: TakenRows) -> None:
        """One more stage."""
        self.funnel.add(stage, ((self.sources[number], cause) for number, (cause, _, _) in taken.items()))
        self.dropped |= {number: (stage, why, more) for number, (_, why, more) in taken.items()}

    def drop_duplicates(self, stage: str, duplicates: Iterable[Duplicate]) -> None:
        """One more stage, which knows the row that stays."""
        taken = {}
        for each in duplicates:
            source, stays_in = self.sources[each.number], self.sources[each.stays]
            how = "the same question as" if each.similarity == 1 else f"{each.similarity:.2f} of the shingles of"
            why = f"{how} {self.name(each.stays)}, of {stays_in}"
            cause = "of the same source" if source == stays_in else f"of {stays_in}"
            taken[each.number] = (cause, why, {"duplicate_of": self.name(each.stays)})
            self.also_in.setdefault(each.stays, set()).update({source, *self.also_in.pop(each.number, ())})
        self.drop(stage, taken)


def run(config: CollectConfig, context: StepContext) -> None:
    """Writes ``test.jsonl``, ``dropped.jsonl``, ``funnel.json`` and ``README.md``."""
    import ray

    context.output.mkdir(parents=True, exist_ok=True)
    held = []
    count = 0
    for block in blocks(_rows(config, context.inputs), BLOCK):
        held.append(ray.put(block))
        count += block.num_rows
        context.progress(0, count, "questions read")

    def again() -> Iterator[Block]:
        for reference in held:
            yield ray.get(reference)

    decided = decide(config, again, on_ray(held), book(config, context.inputs))
    write(config, context, again(), decided)
    context.progress(count, count, "questions")


def book(config: CollectConfig, inputs: Mapping[str, StepInput]) -> Answerbook | None:
    """The tests that are decontaminated against; None where there are none."""
    from jobs.evaluate.tasks.loading import load

    if config.decontaminate is None:
        return None
    asked = config.decontaminate
    tested = [HeldOut(test.name, item.id, item.question) for test in asked.against for item in load(test, inputs).items]
    return Answerbook.of(tested, asked.ngram, asked.near if asked.by == "words" else None)


def _rows(config: CollectConfig, inputs: Mapping[str, StepInput]) -> Iterator[dict[str, Any]]:
    """All rows, by the names of their sources, so that the order in which these are listed changes nothing."""
    number = 0
    for source in sorted(config.sources, key=lambda source: source.name):
        for each in read(source, inputs):
            yield {"number": number, **_plain(each)}
            number += 1


def _plain(each: Collected) -> dict[str, Any]:
    return {**vars(each), "kept": json.dumps(each.kept, ensure_ascii=False, default=str)}


def decide(config: CollectConfig, again: Again, mapped: Mapped, tests: Answerbook | None) -> Decided:
    """What becomes of the rows in the blocks that `again()` gives, in their order."""
    sources, answered, unusable = _looked_through(again())
    came = dict.fromkeys(sorted(source.name for source in config.sources), 0)
    for source in sources:
        came[source] += 1
    decided = Decided(np.zeros(len(sources), np.uint64), sources, Funnel(came))
    decided.drop("unusable", {number: ("no question", why, {}) for number, why in unusable.items()})

    asked = config.decontaminate
    by_words = asked is not None and asked.by == "words"
    bands, found = _worked_out(decided, mapped(Features(tests if by_words else None, config.near_duplicates)))
    if asked is not None and tests is not None:
        if by_words:
            decided.drop("contaminated", {number: _contaminated(tests, each) for number, each in found.items()})
        else:
            names = [source.name for source in config.sources]
            decided.drop("contaminated", _as_published(names, asked.ngram, again(), tests, decided))

    there = decided.there()
    decided.drop_duplicates("duplicates", same(there, decided.keys[there], answered[there]))
    if config.near_duplicates is not None:
        near = alike(*bands.of(decided.there()), answered, config.near_duplicates, mapped)
        decided.drop_duplicates("near duplicates", near)
    quotas = {source.name: source.quota for source in config.sources if source.quota is not None}
    if quotas:
        decided.drop("quota", _beyond(quotas, config.seed, decided))
    return decided


@dataclass(frozen=True)
class _Bands:
    """The bands of the questions that have some, in the order in which they came back."""

    numbers: NDArray[np.int64]
    bands: NDArray[np.uint64]

    def of(self, left: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Those among the rows that are left, ascending, and theirs."""
        there = np.flatnonzero(np.isin(self.numbers, left))
        order = there[np.argsort(self.numbers[there])]
        return self.numbers[order], self.bands[order]


def _looked_through(rows: Iterable[Block]) -> tuple[list[str], NDArray[np.bool_], dict[int, str]]:
    """The source of each row, whether it has a reference answer, and why those that are no question are none."""
    sources: list[str] = []
    answered: list[bool] = []
    unusable: dict[int, str] = {}
    for block in rows:
        sources += map(sys.intern, block["source"].to_pylist())
        answered += map(bool, block["answer"].to_pylist())
        bad = block.filter(block["unusable"].is_valid())
        unusable |= zip(bad["number"].to_pylist(), bad["unusable"].to_pylist(), strict=True)
    return sources, np.asarray(answered, bool), unusable


def _worked_out(decided: Decided, features: Iterable[Block]) -> tuple[_Bands, dict[int, Contamination]]:
    """Takes in the identities, and gives the bands, and what is of a test, by row."""
    numbers: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    bands: list[NDArray[np.uint64]] = []
    contaminations: dict[int, Contamination] = {}
    for block in features:
        decided.keys[block["number"].to_numpy()] = block["key"].to_numpy()
        banded = block.filter(pa.compute.greater(pa.compute.list_value_length(block["bands"]), 0))
        if banded.num_rows:
            numbers.append(banded["number"].to_numpy())
            flat = np.concatenate([part.flatten().to_numpy() for part in banded["bands"].chunks])
            bands.append(flat.reshape(banded.num_rows, -1))
        hit = block.filter(block["tested"].is_valid())
        columns = ("tested", "kind", "shared", "length", "similarity")
        contaminations |= {row["number"]: Contamination(*(row[name] for name in columns)) for row in hit.to_pylist()}
    flat_bands = np.concatenate(bands) if bands else np.empty((0, 1), np.uint64)
    return _Bands(np.concatenate(numbers), flat_bands), contaminations


def _contaminated(tests: Answerbook, each: Contamination) -> tuple[str, str, dict[str, Any]]:
    tested = tests.tested[each.tested]
    what = f"{each.length} words in a row" if each.kind.endswith("in a row") else each.kind
    against = {
        "test": tested.test,
        "item": tested.item,
        "question": tested.question,
        "shared": each.shared,
        "words": each.length,
        "similarity": round(each.similarity, 4),
    }
    return f"{tested.test}, {each.kind}", f"{tested.test} {tested.item}: {what}: {each.shared}", {"against": against}


def _as_published(
    names: Sequence[str], ngram: int, rows: Iterable[Block], tests: Answerbook, decided: Decided
) -> TakenRows:
    """What the s1 paper's procedure drops, of the sources in the order of `names`."""
    by_source: dict[str, list[tuple[int, str]]] = {name: [] for name in names}
    for block in rows:
        usable = block.filter(block["unusable"].is_null())
        columns = (usable[name].to_pylist() for name in ("source", "number", "question"))
        for source, number, question in zip(*columns, strict=True):
            by_source[source].append((number, question))
    procedure = PublishedProcedure(tests.tested, ngram)
    taken = {}
    for source, questions in by_source.items():
        taken_words = procedure.keeps(source, ((decided.name(number), question) for number, question in questions))
        for (number, _), shared in zip(questions, taken_words, strict=True):
            if shared is not None:
                whose, item, text = shared
                more = {"against": {"test": whose, "item": item, "shared": text}}
                taken[number] = (f"{whose}, {ngram} words in a row", f"{whose} {item}: {text}", more)
    return taken


def _beyond(quotas: Mapping[str, int], seed: int, decided: Decided) -> TakenRows:
    """What is beyond the quotas: of each source, those that the seed draws last."""
    left: dict[str, list[int]] = {source: [] for source in quotas}
    for number in decided.there().tolist():
        if decided.sources[number] in left:
            left[decided.sources[number]].append(number)

    def drawn(number: int) -> bytes:
        return hashlib.sha256(f"{seed}\0{decided.name(number)}".encode()).digest()

    return {
        number: (f"beyond {quotas[source]:,}", f"beyond the quota of {quotas[source]:,} of {source}", {})
        for source, numbers in left.items()
        for number in sorted(numbers, key=drawn)[quotas[source] :]
    }


def write(config: CollectConfig, context: StepContext, rows: Iterable[Block], decided: Decided) -> None:
    """Writes the rows where they belong, and what became of them. Raises StepError where none is left."""
    funnel = decided.funnel
    if not sum(funnel.out.values()):
        most = funnel.took_most
        said = "" if most is None else f": {most.name} took {most.causes().total():,} of {sum(funnel.came.values()):,}"
        raise StepError(f"no question is left{said}; see decontaminate, near_duplicates and the sources")
    context.output.mkdir(parents=True, exist_ok=True)
    with Lines(context.output / "test.jsonl") as kept, Lines(context.output / DROPPED) as dropped:
        for block in rows:
            for row in block.to_pylist():
                number = row["number"]
                columns = {
                    "id": decided.name(number),
                    **{name: row[name] for name in ("question", "answer", "type", "source", "row")},
                }
                extra = json.loads(row["kept"])
                if number in decided.dropped:
                    stage, why, more = decided.dropped[number]
                    dropped.add({**columns, **extra, "stage": stage, "reason": why, **more})
                else:
                    also = sorted(decided.also_in.get(number, set()) - {row["source"]})
                    kept.add({**columns, "also_in": also, **extra})
    sources: list[tuple[TaskConfig, str]] = [(each, "source") for each in config.sources]
    if config.decontaminate is not None:
        sources += [(each, "decontamination") for each in config.decontaminate.against]
    given = [took(each.path or _on_the_hub(each), context, _revision(each), role) for each, role in sources]
    describe(context, "questions", funnel, _facts(config), given)


def _on_the_hub(task: TaskConfig) -> str:
    return task.dataset or (task.published.dataset if task.published else task.name)


def _revision(task: TaskConfig) -> str | None:
    return task.revision or (task.published.revision if task.published else None)


def _facts(config: CollectConfig) -> dict[str, str]:
    """What the card says of how it was made."""
    facts = {}
    for source in config.sources:
        where, revision = source.path or _on_the_hub(source), _revision(source)
        facts[f"source {source.name}"] = f"{where}{f' at {revision}' if revision else ''}"
    if config.decontaminate is not None:
        asked = config.decontaminate
        tests = ", ".join(test.name for test in asked.against)
        how = f"{asked.ngram} words in a row" + (
            "" if asked.near is None or asked.by == "s1" else f", or {asked.near} alike"
        )
        facts["decontaminated"] = f"against {tests}: {how}" + (" (as published by s1)" if asked.by == "s1" else "")
    if config.near_duplicates is not None:
        facts["near duplicates"] = f"from {config.near_duplicates} of the runs of three words, with the same numbers"
    return facts
