"""The page on a curated set: funnel, lengths and domains before and after, and a viewer of rows with their reasons.

One HTML file that needs no network. What rows say is hostile until shown otherwise: the template engine escapes it, and
the viewer sets it as text; a content security policy lets run nothing but the page's own script, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from jobs.curate.domains import counted
from jobs.curate.row import CurateRow
from jobs.fates import Funnel

VIEWED = 400
"""Rows of the viewer: kept ones, and dropped ones of every stage, drawn alike."""
LONGEST = 6000
"""Characters of a part of one that are shown."""
BARS = 12
MOST_DOMAINS = 80


def page(
    title: str,
    funnel: Funnel,
    rows: Sequence[CurateRow],
    before: Sequence[CurateRow],
    after: Sequence[CurateRow],
    dropped: Sequence[tuple[CurateRow, str, str]],
) -> str:
    """As text. `before` are the rows that the selection chose from, `after` those that it took."""
    script = files(__package__).joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = _viewed(after, dropped)
    lengths = _lengths(rows, before, after)
    data = base64.b64encode(json.dumps(shown, ensure_ascii=True).encode()).decode()
    return _template().render(
        title=title,
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        script=Markup(script),
        data=data,
        funnel=funnel,
        sources=list(funnel.came),
        lengths=lengths,
        most=max((share for _, shares in lengths for share in shares), default=0.0) or 1.0,
        domains=_domains(before, after),
        viewed=len(shown),
        rows=len(rows),
    )


def _lengths(*groups: Sequence[CurateRow]) -> list[tuple[str, list[float]]]:
    """Shares of each group by length, in bins that all have."""
    longest = max((row.length for row in groups[0]), default=0)
    width = max(1, -(-longest // BARS))
    bins = []
    for at in range(BARS):
        low, high = at * width, (at + 1) * width
        counts = [sum(low < row.length <= high or (at == 0 and not row.length) for row in group) for group in groups]
        shares = [count / len(group) if group else 0.0 for count, group in zip(counts, groups, strict=True)]
        bins.append((f"≤ {high:,}", shares))
    return bins


def _domains(before: Sequence[CurateRow], after: Sequence[CurateRow]) -> list[tuple[str, int, int]]:
    """The commonest, with their rows before and after."""
    had, has = counted(before), counted(after)
    return [(domain, count, has[domain]) for domain, count in had.most_common(MOST_DOMAINS) if domain]


def _viewed(after: Sequence[CurateRow], dropped: Sequence[tuple[CurateRow, str, str]]) -> list[dict[str, str]]:
    by_stage: dict[str, list[tuple[CurateRow, str]]] = {"kept": [(row, "") for row in after]}
    for row, stage, why in dropped:
        by_stage.setdefault(stage, []).append((row, why))
    share, rng = VIEWED // len(by_stage), random.Random(0)
    return [
        {
            "fate": stage,
            "reason": why,
            "source": row.source,
            "domain": row.domain,
            "length": f"{row.length:,}",
            **{part: getattr(row, part)[:LONGEST] for part in ("question", "trace", "answer")},
        }
        for stage, members in by_stage.items()
        for row, why in (members if len(members) <= share else rng.sample(members, share))
    ]


@lru_cache
def _template() -> Template:
    text = files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
