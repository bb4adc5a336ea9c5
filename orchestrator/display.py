"""What a run shows while it works: bars on a terminal, one plain line every few seconds in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from orchestrator.terminal import plain

LOG_EVERY = 5.0
"""Seconds between two lines about one step in a log."""

LOG_WIDTH = 120
"""Columns where the output is not a terminal, so that a log does not wrap what nobody's window asked it to."""


DRAWN = 200
"""Rows of a table up to which it is drawn: to lay out thousands takes many seconds, and nobody looks at their lines."""


class PlainConsole(Console):
    """A console on which text is text: ``[red]``, ``:smile:`` and a terminal's own sequences mean nothing in it."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Called with every string that is printed, in tables too."""
        return super().render_str(plain(text), **{**options, "markup": False, "emoji": False})


def console() -> Console:
    """The console that everything is said on: as wide as the terminal, or as `LOG_WIDTH` in a log."""
    terminal = PlainConsole(highlight=False)
    return terminal if terminal.is_terminal else PlainConsole(highlight=False, width=LOG_WIDTH)


def show_table(table: Table, out: Console) -> None:
    """Draws a table of strings; a long one as a line per row."""
    if table.row_count <= DRAWN:
        out.print(table)
        return
    rows = [
        "  ".join(str(cell) for cell in row if cell)
        for row in zip(*(each.cells for each in table.columns), strict=True)
    ]
    for line in (table.title, *rows, table.caption):
        if line:
            click.echo(plain(str(line)), file=out.file)


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


@dataclass
class _Line:
    """What a log was last told of a step."""

    started: float
    said: float
    first: tuple[float, float] | None = None
    """(time, done) before the first that was done in this attempt, from which the rate follows."""

    kind: str = ""
    """The first word of the unit: what comes first may be counted in another."""

    def left(self, now: float, done: float, total: float, unit: str) -> float | None:
        """Seconds, at the rate so far; None while there is none."""
        before, self.kind = self.kind, unit.partition(" ")[0]
        if self.first is None or done <= self.first[1] or before != self.kind:
            self.first = (now, done)
            return None
        began, start = self.first
        return (total - done) * (now - began) / (done - start)


class Display:
    """Tells the story of a run. A context manager, because bars own the terminal while they are up."""

    def __init__(self, out: Console):
        self.out = out
        self._lines: dict[str, _Line] = {}
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        if self.out.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<12}", style="bold", markup=False),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TextColumn("{task.fields[left]}", markup=False),
                console=self.out,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """One line for people."""
        self.out.print(text, markup=False, soft_wrap=True)

    def started(self, step: str, what: str, attempt: int) -> None:
        now = time.monotonic()
        self._lines[step] = _Line(now, now)
        again = f" (restart {attempt})" if attempt else ""
        self.say(f"{step}: started{again}{': ' if what else ''}{what}")

    def progress(self, step: str, done: float, total: float, unit: str, left: float | None = None) -> None:
        """`left` are the seconds that the step itself expects; else it follows from how far it came."""
        unit = plain(unit)
        line, now = self._lines[step], time.monotonic()
        reckoned = line.left(now, done, total, unit)
        left = reckoned if left is None else left
        eta = "" if left is None else duration(left)
        if self._bars is not None:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total, unit=unit, left=eta)
            self._bars.update(self._tasks[step], completed=done, total=total, unit=unit, left=eta)
            return
        if now - line.said < LOG_EVERY:
            return
        line.said = now
        share = f"{done / total:.0%}" if total else "0%"
        took, then = duration(now - line.started), f", ETA {eta}" if eta else ""
        self.say(f"{step}: {done:,.0f}/{total:,.0f} {unit} ({share}), {took}{then}")

    def finished(self, step: str, seconds: float) -> None:
        self._remove_bar(step)
        self.say(f"{step}: done in {duration(seconds)}")

    def failed(self, step: str, error: str, log: list[str]) -> None:
        self._remove_bar(step)
        for line in log:
            self.say(f"{step} | {line}")
        self.say(f"{step}: {error}")

    def _remove_bar(self, step: str) -> None:
        if self._bars is not None and step in self._tasks:
            self._bars.remove_task(self._tasks.pop(step))
