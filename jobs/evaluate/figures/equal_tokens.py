"""Searches beside votes at equal tokens: rows for programs (``equal_tokens.json``), a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.evaluate.figures.tables import TableRow, bounded, cell, chance, markdown, number, p_value, percent
from jobs.evaluate.stats.equal_tokens import EqualTokens

FILE = "equal_tokens.json"
"""In the step's output, where it searches."""

COLUMNS = (
    *("search", "votes", "tokens of each", "samples that vote", "search", "votes"),
    *("difference", "p", "p corrected"),
)
WORDS = 3
"""How many of the columns, the first ones, are of words."""

NOTE = (
    "What a search's tokens come to where they are spent on samples that vote: n samples of some questions and n + 1 "
    "of the others, so that both take the same in the mean. Differences are the search less the votes, in points, "
    "paired by item, with 95% intervals; p corrected takes into account how many comparisons there are. Bounds take "
    "someone who knows the right answers, and are no part of that."
)


def write(found: Iterable[EqualTokens], output: Path) -> None:
    """Writes the file, where something was searched."""
    if of_found := rows(found):
        (output / FILE).write_text(json.dumps(of_found, indent=1) + "\n")


def read(output: Path) -> list[dict[str, Any]]:
    """What :func:`write` wrote; nothing where nothing was searched."""
    path = output / FILE
    compared: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return compared


def rows(found: Iterable[EqualTokens]) -> list[TableRow]:
    """Shares are of 1; None where the sweep has not as many samples, and where the tokens do not pay for one."""
    return [
        {
            "task": each.task,
            "policy": each.policy,
            "votes": each.votes,
            "scorer_counted": each.scorer_counted,
            "bound": each.bound,
            "tokens": number(each.tokens),
            "samples": number(each.samples),
            "accuracy": number(each.accuracy),
            "voted": number(each.voted),
            "difference": None if each.difference is None else number(each.difference.value),
            **bounded("difference", None if each.difference is None else each.difference.interval),
            "p_value": None if each.difference is None else chance(each.difference.p_value),
            "p_holm": chance(each.p_holm),
        }
        for each in found
    ]


def lines(of_task: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Rows as people read them, in :data:`COLUMNS`."""
    return [
        (
            str(each["policy"]),
            f"{each['votes']}{', a bound' if each['bound'] else ''}",
            f"{each['tokens']:,.0f}, the scorer's {'' if each['scorer_counted'] else 'not '}counted",
            f"{each['samples']:,.1f}" + ("" if each["difference"] is not None else ", not drawn"),
            percent(each["accuracy"]),
            *(("–", "") if each["difference"] is None else (percent(each["voted"]), _points(each))),
            *("" if each[name] is None else p_value(each[name]) for name in ("p_value", "p_holm")),
        )
        for each in of_task
    ]


def as_markdown(found: Sequence[EqualTokens]) -> str:
    """A table per task; empty where nothing was searched."""
    sections = []
    for task in dict.fromkeys(each.task for each in found):
        of_task = rows(each for each in found if each.task == task)
        sections.append(f"**{cell(task)}: searches against votes at equal tokens**\n")
        sections.append(markdown(COLUMNS, [tuple(map(cell, line)) for line in lines(of_task)]) + "\n")
    return "\n".join([*sections, NOTE + "\n"]) if sections else ""


def _points(row: Mapping[str, Any]) -> str:
    value, low, high = (100 * row[name] for name in ("difference", "difference_low", "difference_high"))
    return f"{value:+.1f} ({low:+.1f} … {high:+.1f})"
