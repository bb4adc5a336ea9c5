"""A page on rows that were made: what became of them, how long they are, tables, and a viewer of some of each fate.

One HTML file that needs no network. What rows say is hostile until shown otherwise: the template engine escapes it, the
viewer sets it as text, and a content security policy lets run nothing but the page's own script, by its hash.
"""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from markupsafe import Markup

from jobs.fates import Funnel
from orchestrator.job.html import own_file, security_policy, template

LONGEST = 6000
"""Characters of a text that the viewer shows, but for what is asked for in full."""
BINS = 12
COLOURS = {1: ("kept",), 2: ("all", "kept"), 3: ("all", "left", "kept")}
"""Of bars, by how many groups there are."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Lengths:
    """Shares of up to three groups of rows by length."""

    groups: tuple[str, ...]
    shares: Sequence[tuple[str, Sequence[float]]]
    """The upper end of each bin, and the share of each group that is in it."""

    @classmethod
    def of(cls, groups: Mapping[str, Counter[int]]) -> Lengths:
        """Groups are counts of rows by length; the first has all that any has."""
        longest = max(next(iter(groups.values())), default=0)
        width = max(1, -(-longest // BINS))
        binned: list[Counter[int]] = []
        for counts in groups.values():
            bins: Counter[int] = Counter()
            for length, count in counts.items():
                bins[max(0, length - 1) // width] += count
            binned.append(bins)
        shares = [[bins[at] / max(1, bins.total()) for bins in binned] for at in range(BINS)]
        return cls(tuple(groups), [(f"≤ {(at + 1) * width:,}", each) for at, each in enumerate(shares)])

    @property
    def colours(self) -> tuple[str, ...]:
        """Of the groups."""
        return COLOURS[len(self.groups)]

    @property
    def most(self) -> float:
        """The largest share."""
        return max((share for _, shares in self.shares for share in shares), default=0.0) or 1.0


@dataclass(frozen=True)
class RowsTable:
    """Texts in the first column, counts in the others."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ViewedRow:
    """A row in the viewer."""

    fate: str
    """``kept``, or the stage that dropped it."""
    reason: str
    about: Sequence[str]
    """What else is known of it, in a few words each."""
    question: str
    texts: Sequence[tuple[str, str]]
    """Shown on demand, each with its name."""
    whole: bool = False
    """Whether it was asked for in full."""

    def record(self, step: str) -> dict[str, Any]:
        """As the page's script takes it."""
        most = None if self.whole else LONGEST
        return {
            "step": step,
            "fate": self.fate,
            "about": [f"{self.fate}: {self.reason}" if self.reason else self.fate, *filter(None, self.about)],
            "texts": [("", self.question[:most]), *((name, text[:most]) for name, text in self.texts)],
        }


@dataclass(frozen=True)
class MadeRows:
    """What the page says of one step."""

    name: str
    said: str
    """A sentence."""
    funnel: Funnel
    length_of: str
    lengths: Lengths
    tables: Sequence[RowsTable] = ()
    facts: Sequence[tuple[str, str]] = ()
    viewed: Sequence[ViewedRow] = field(default=(), repr=False)


class Drawn(Generic[Row]):
    """Some of the rows of each fate, each as likely, however many come; what is wanted is among them."""

    def __init__(self, most: int):
        """At most so many of a fate, besides those that are wanted."""
        self._most = most
        self._rng = random.Random(0)
        self._came: Counter[str] = Counter()
        self._held: dict[str, list[Row]] = {}
        self._wanted: list[Row] = []

    def add(self, fate: str, row: Row, wanted: bool = False) -> None:
        """One more row."""
        if wanted:
            self._wanted.append(row)
            return
        held = self._held.setdefault(fate, [])
        self._came[fate] += 1
        if len(held) < self._most:
            held.append(row)
        elif (place := self._rng.randrange(self._came[fate])) < self._most:
            held[place] = row

    def __iter__(self) -> Iterator[Row]:
        """Those that are wanted, then by turns one of each fate."""
        yield from self._wanted
        for place in range(self._most):
            yield from (held[place] for held in self._held.values() if place < len(held))


def page(title: str, made: Sequence[MadeRows], note: str) -> str:
    """As text. `note` says which rows can be viewed."""
    style, script = (own_file(__package__, name) for name in ("page.css", "page.js"))
    shown = [row.record(each.name) for each in made for row in each.viewed]
    return template(__package__, "page.html.j2").render(
        title=title,
        policy=security_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=packed(shown),
        made=made,
        note=note,
    )


def packed(rows: Iterable[Any]) -> str:
    """As base64 of JSON: nothing in it looks like HTML."""
    return base64.b64encode(json.dumps(list(rows), ensure_ascii=True).encode()).decode()
