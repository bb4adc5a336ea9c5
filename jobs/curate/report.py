"""The page on a curated set: funnel, lengths and domains before and after, and a viewer of rows with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jobs.curate.domains import counted
from jobs.curate.row import Entry
from jobs.fates import Funnel
from jobs.rows_page import Drawn, Lengths, MadeRows, RowsTable, ViewedRow, page

VIEWED = 400
"""Rows of the viewer: kept ones, and dropped ones of every stage, drawn alike."""
MOST_DOMAINS = 80


def curated_page(
    title: str,
    funnel: Funnel,
    before: Sequence[Entry],
    after: Sequence[Entry],
    dropped: Iterable[tuple[Entry, str, str]],
    again: Callable[[Iterable[Entry]], Iterator[Mapping[str, Any]]],
) -> str:
    """As text. `before` are the rows that the selection chose from, `after` those that it took; `again` reads rows."""
    drawn: Drawn[tuple[Entry, str, str]] = Drawn(VIEWED // (1 + len(funnel.stages)))
    every = Counter(row.length for row in after)
    for row in after:
        drawn.add("kept", (row, "kept", ""))
    for row, stage, why in dropped:
        every[row.length] += 1
        drawn.add(stage, (row, stage, why))
    chosen = list(drawn)
    columns = again(row for row, _, _ in chosen)
    viewed = [_viewed(row, fate, why, said) for (row, fate, why), said in zip(chosen, columns, strict=True)]
    lengths = {"all rows": every}
    lengths |= {
        name: Counter(row.length for row in group)
        for name, group in (("before the selection", before), ("taken", after))
    }
    domains = list(_domains(before, after))
    made = MadeRows(
        name=title,
        said=f"{every.total():,} rows came, {len(after):,} were taken.",
        funnel=funnel,
        length_of="Lengths",
        lengths=Lengths.of(lengths),
        tables=[RowsTable("Domains", ("domain", "before", "taken"), domains)] if domains else [],
        viewed=viewed,
    )
    return page(title, [made], f"{len(viewed):,} of them, as many of each fate as there is room for.")


def _domains(before: Sequence[Entry], after: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """The commonest, with their rows before and after."""
    had, has = counted(before), counted(after)
    return [(domain, f"{count:,}", f"{has[domain]:,}") for domain, count in had.most_common(MOST_DOMAINS) if domain]


def _viewed(row: Entry, fate: str, why: str, columns: Mapping[str, Any]) -> ViewedRow:
    texts = [(part, columns[part]) for part in ("trace", "answer")]
    return ViewedRow(fate, why, (row.source, row.domain, f"length {row.length:,}"), columns["question"], texts)
