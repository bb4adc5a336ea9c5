"""The report as Markdown: what can be said without a browser, for a pull request, a paper's appendix, a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evaluate.figures.tables import MARKUP
from jobs.evaluate.report.listings import frontier_listing, listings
from jobs.evaluate.report.results import (
    FinishedSweep,
    difference,
    p_value,
    percent,
    range_text,
    statistic_columns,
    tokens,
)
from jobs.evaluate.report.summary import about, cost, facts, tiles
from jobs.evaluate.report.viewer import TaskData
from orchestrator.job.record import ReportRequest


def render(sweeps: Sequence[FinishedSweep], data: Sequence[TaskData], request: ReportRequest) -> str:
    """The report as text."""
    parts = [f"# {escaped(request.title)}"]
    for sweep in sweeps:
        for each in data:
            if each.sweep == sweep.name:
                parts += _task(sweep, each, several=len(data) > 1)
        parts += [f"## Cost of {escaped(sweep.name)}", cost(sweep).sentence]
    for sweep in sweeps:
        lines = [f"- {name}: {escaped(value)}" for name, value in facts(sweep)]
        configuration = sweep.config.model_dump_json(indent=2, exclude_unset=True).replace("`", "\\u0060")
        parts += [f"## What produced {escaped(sweep.name)}", "\n".join(lines), f"```json\n{configuration}\n```"]
    parts.append(f"Samples and their traces are in `report.html` beside this file. Written by `{request.command}`.")
    return "\n\n".join(parts) + "\n"


def _task(sweep: FinishedSweep, data: TaskData, several: bool) -> list[str]:
    points = sweep.points(data.task)
    statistics = statistic_columns(points)
    title = f"{sweep.name} · {data.task}" if several else data.task
    rows = [
        [
            escaped(point["policy"]),
            tokens(point, "thinking_tokens"),
            tokens(point, "answer_tokens"),
            percent(point["accuracy"]),
            f"{percent(point['accuracy_low'])} – {percent(point['accuracy_high'])}",
            range_text(point),
            difference(point),
            p_value(point["p_value"]),
            *(shown(point) for shown in statistics.values()),
        ]
        for point in points
    ]
    columns = [
        *(
            "policy",
            "thinking tokens",
            "answer tokens",
            "accuracy",
            "95% interval",
            "not graded wrong … right",
            "vs natural end",
            "p",
        ),
        *map(escaped, statistics),
    ]
    headline = "; ".join(f"**{escaped(tile.value)}** {escaped(tile.what)}" for tile in tiles(sweep, data))
    parts = [f"## {escaped(title)}", escaped(about(sweep, data.task)), headline, table(columns, rows)]
    for frontier in sweep.frontiers:
        if frontier["task"] == data.task:
            worth = frontier_listing(frontier)
            cells = [[escaped(cell) for cell in row] for row in worth.rows]
            parts += [f"### What is worth its cost: {frontier['cost']}", escaped(frontier["sentence"])]
            parts += [table(worth.columns, cells, worth.texts), escaped(worth.note)]
    for each in listings(sweep, data.task):
        cells = [[escaped(cell) for cell in row] for row in each.rows]
        parts += [f"### {each.title}", table(each.columns, cells, each.texts), escaped(each.note)]
    return parts


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; its first columns are text, the others numbers. Cells are taken as they are."""
    lines = [columns, [*[":--"] * texts, *["--:"] * (len(columns) - texts)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escaped(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown or HTML would take for more than text."""
    shown = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in str(text))
    return "".join(f"\\{letter}" if letter in MARKUP else letter for letter in shown)
