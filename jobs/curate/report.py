"""The page on a curated set: funnel, lengths and domains before and after, and a viewer of rows with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jobs.curate.domains import counted
from jobs.curate.row import CurateRow
from jobs.fates import Funnel
from jobs.rows_page import Drawn, Lengths, MadeRows, RowsTable, ViewedRow, page

VIEWED = 400
"""Rows of the viewer: kept ones, and dropped ones of every stage, drawn alike."""
MOST_DOMAINS = 80


def curated_page(
    title: str,
    funnel: Funnel,
    rows: Sequence[CurateRow],
    before: Sequence[CurateRow],
    after: Sequence[CurateRow],
    dropped: Sequence[tuple[CurateRow, str, str]],
) -> str:
    """As text. `before` are the rows that the selection chose from, `after` those that it took."""
    drawn = Drawn(VIEWED // (1 + len(funnel.stages)))
    for row in after:
        drawn.add("kept", _viewed(row, "kept", ""))
    for row, stage, why in dropped:
        drawn.add(stage, _viewed(row, stage, why))
    viewed = list(drawn)
    groups = {"all rows": rows, "before the selection": before, "taken": after}
    lengths = {name: Counter(row.length for row in group) for name, group in groups.items()}
    domains = list(_domains(before, after))
    made = MadeRows(
        name=title,
        said=f"{len(rows):,} rows came, {len(after):,} were taken.",
        funnel=funnel,
        length_of="Lengths",
        lengths=Lengths.of(lengths),
        tables=[RowsTable("Domains", ("domain", "before", "taken"), domains)] if domains else [],
        viewed=viewed,
    )
    return page(title, [made], f"{len(viewed):,} of them, as many of each fate as there is room for.")


def _domains(before: Sequence[CurateRow], after: Sequence[CurateRow]) -> list[tuple[str, str, str]]:
    """The commonest, with their rows before and after."""
    had, has = counted(before), counted(after)
    return [(domain, f"{count:,}", f"{has[domain]:,}") for domain, count in had.most_common(MOST_DOMAINS) if domain]


def _viewed(row: CurateRow, fate: str, why: str) -> ViewedRow:
    texts = [("trace", row.trace), ("answer", row.answer)]
    return ViewedRow(fate, why, (row.source, row.domain, f"length {row.length:,}"), row.question, texts)
