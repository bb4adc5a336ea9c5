"""What became of every row: stages that each take some and let the rest through, counted per source.

Whatever turns one set of rows into another says with a :class:`Funnel` where each of them went. Counts are conserved:
in = out + dropped, at every stage and for every source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

FILE = "funnel.json"
"""In the output of a step that has a funnel."""
DROPPED = "dropped.jsonl"
"""Beside it: every row that was dropped, with its ``stage`` and ``reason``."""


@dataclass(frozen=True)
class Stage:
    """One filter, and what it did to the rows of each source."""

    name: str
    came: Mapping[str, int]
    """Rows by source."""
    dropped: Mapping[str, Mapping[str, int]]
    """Rows by source and cause."""

    @property
    def out(self) -> dict[str, int]:
        """Rows by source that went on."""
        return {source: count - sum(self.dropped.get(source, {}).values()) for source, count in self.came.items()}

    def causes(self) -> Counter[str]:
        """What it dropped, all sources together, by cause."""
        total: Counter[str] = Counter()
        for causes in self.dropped.values():
            total.update(causes)
        return total


@dataclass
class Funnel:
    """Stages, one after the other."""

    came: Mapping[str, int]
    """Rows by source, before the first."""
    stages: list[Stage] = field(default_factory=list)

    @property
    def out(self) -> Mapping[str, int]:
        """Rows by source after the last stage."""
        return self.stages[-1].out if self.stages else self.came

    def add(self, name: str, dropped: Iterable[tuple[str, str]]) -> Stage:
        """One more stage. `dropped` has the source and the cause of each row that it took."""
        counts: dict[str, Counter[str]] = {}
        for source, cause in dropped:
            counts.setdefault(source, Counter())[cause] += 1
        ordered = {source: dict(sorted(causes.items())) for source, causes in sorted(counts.items())}
        stage = Stage(name, dict(self.out), ordered)
        for source, causes in stage.dropped.items():
            taken, there = sum(causes.values()), stage.came.get(source, 0)
            assert taken <= there, f"{name} dropped {taken} rows of {source}, which had {there}"
        self.stages.append(stage)
        return stage

    @property
    def took_most(self) -> Stage | None:
        """The stage that dropped more than any other; None where nothing was dropped."""
        most = max(self.stages, key=lambda stage: stage.causes().total(), default=None)
        return most if most is not None and most.causes().total() else None

    def record(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "in": dict(self.came),
            "stages": [
                {"name": stage.name, "in": dict(stage.came), "dropped": dict(stage.dropped), "out": stage.out}
                for stage in self.stages
            ],
            "out": dict(self.out),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Funnel:
        """What :meth:`record` gave."""
        return cls(record["in"], [Stage(each["name"], each["in"], each["dropped"]) for each in record["stages"]])

    def metrics(self) -> dict[str, float]:
        """For a tracking server: ``rows_in``, ``rows_out``, and ``dropped_<stage>``."""
        counts = {"rows_in": sum(self.came.values()), "rows_out": sum(self.out.values())}
        counts |= {f"dropped_{stage.name.replace(' ', '_')}": stage.causes().total() for stage in self.stages}
        return {name: float(value) for name, value in counts.items()}

    def markdown(self) -> str:
        """A table: sources in columns, stages in rows, and below it why each stage dropped what it did."""
        sources = list(self.came)
        several = len(sources) > 1
        head = ["", *(sources if several else []), "all"]
        lines = [_row(head), _row(["---", *("--:" for _ in head[1:])])]
        lines.append(_row(["**in**", *self._counts(self.came, several)]))
        for stage in self.stages:
            taken = {source: sum(stage.dropped.get(source, {}).values()) for source in sources}
            lines.append(_row([f"− {stage.name}", *self._counts(taken, several)]))
        lines.append(_row(["**out**", *self._counts(self.out, several)]))
        why = list(self._why())
        return "\n".join([*lines, *(["", *why] if why else [])]) + "\n"

    @staticmethod
    def _counts(rows: Mapping[str, int], several: bool) -> Iterator[str]:
        if several:
            yield from (f"{count:,}" for count in rows.values())
        yield f"{sum(rows.values()):,}"

    def _why(self) -> Iterator[str]:
        for stage in self.stages:
            for cause, count in stage.causes().most_common():
                yield f"- {stage.name}: {count:,} {cause}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
