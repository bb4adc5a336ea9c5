"""The report on finished distilling steps: what was kept and why, how traces ended and how long they are, and some.

Everything is read from the rows that the steps made. Nothing is asked, decoded or graded.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from jobs.distil.config import DistilConfig
from jobs.distil.made_rows import made_rows
from jobs.evaluate.report.markdown import escaped, table
from jobs.evaluate.report.results import FinishedSweep, count
from jobs.evaluate.report.summary import against_expectation, facts
from jobs.fates import FILE, Funnel
from jobs.rows_page import Drawn, Lengths, MadeRows, RowsTable, ViewedRow, packed, page
from orchestrator.job.errors import StepError
from orchestrator.job.record import FinishedStep, ReportRequest
from orchestrator.job.tracked_run import folder_name
from orchestrator.store.step_folders import PAGE

A_MEGABYTE = 100
"""Rows of a fate that are drawn for each; of them, the page has as many as there is room for."""


def write(steps: Sequence[FinishedStep], request: ReportRequest) -> None:
    """Writes ``report.html`` and ``report.md``, and puts the page with each step's tracked run.

    Raises StepError for items that no step has.
    """
    counted = [_Counted.of(step, request) for step in steps]
    known = set().union(*(each.wanted for each in counted))
    if strange := [item for item in request.items if item not in known]:
        raise StepError(f"--item: no question {strange[0]!r} in this experiment's traces: give an id of their rows")
    made = [each.shown(_that_fit(each.drawn, request.megabytes / len(steps))) for each in counted]
    shown, there = sum(len(each.viewed) for each in made), sum(each.samples for each in counted)
    note = f"{shown:,} of {there:,} samples are here, drawn alike of each fate, for {request.megabytes:g} MB."
    if shown < there:
        note += f" For others: {request.command} --item ID, or --megabytes {2 * request.megabytes:g}."
    html = request.folder / PAGE
    _replace(html, page(request.title, made, note))
    _replace(request.folder / "report.md", _markdown(made, request))
    for step in steps:
        artifacts = step.context.folder / "tracked" / folder_name(step.context.name) / "artifacts"
        if artifacts.is_dir():
            shutil.copyfile(html, artifacts / PAGE)


@dataclass
class _Counted:
    """What one step's rows come to."""

    step: FinishedStep
    drawn: Drawn[ViewedRow]
    verdicts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """By verdict, and whether the sample was kept."""
    ends: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """By what ended thinking, what ended the answer, and whether the sample was kept."""
    thinking: dict[bool, Counter[int]] = field(default_factory=lambda: {False: Counter(), True: Counter()})
    """Samples by their tokens of thinking: those that were dropped, and those that were kept."""
    answers: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    """Tokens of answers."""
    wanted: set[str] = field(default_factory=set)
    """Of the items that were asked for, those that are here."""

    @classmethod
    def of(cls, step: FinishedStep, request: ReportRequest) -> _Counted:
        """Reads all of a step's rows, once."""
        counted = cls(step, Drawn(math.ceil(A_MEGABYTE * request.megabytes)))
        for fate, reason, row in made_rows(step.context.output):
            kept = fate == "kept"
            counted.verdicts[row["verdict"], kept] += 1
            counted.ends[row["thinking_end"], row["answer_end"], kept] += 1
            counted.thinking[kept][row["thinking_tokens"]] += 1
            counted.answers[kept] += row["answer_tokens"]
            asked_for = row["id"] in request.items
            if asked_for:
                counted.wanted.add(row["id"])
            counted.drawn.add(fate, _viewed(row, fate, reason, asked_for), asked_for)
        return counted

    @property
    def samples(self) -> int:
        return self.verdicts.total()

    def shown(self, viewed: Sequence[ViewedRow]) -> MadeRows:
        """As the page has it."""
        sweep = FinishedSweep(self.step)
        kept, config = self.thinking[True], cast(DistilConfig, self.step.config)
        every = kept + self.thinking[False]
        said = (
            f"{sweep.model} was asked for {self.samples:,} samples; keep: {config.keep} keeps {kept.total():,}.",
            _took(sweep.decode),
            *against_expectation(self.step),
        )
        columns = ("", "samples", "kept")
        verdicts = dict.fromkeys(verdict for (verdict, _), _ in self.verdicts.most_common())
        ends = dict.fromkeys(key[:2] for key, _ in self.ends.most_common())
        return MadeRows(
            name=self.step.context.name,
            said=" ".join(said),
            funnel=Funnel.of(json.loads((self.step.context.output / FILE).read_text(encoding="utf-8"))),
            length_of="Thinking, in tokens",
            lengths=Lengths.of({"all samples": every, "kept": kept}),
            tables=(
                RowsTable("Verdicts", columns, [self._row(self.verdicts, (each,)) for each in verdicts]),
                RowsTable("How samples ended", columns, [self._row(self.ends, each) for each in ends]),
                RowsTable(
                    "Tokens",
                    ("", "thinking, mean", "median", "longest", "answer, mean", "all"),
                    [
                        _tokens("all samples", every, sum(self.answers.values())),
                        *([_tokens("kept", kept, self.answers[True])] if kept else []),
                    ],
                ),
            ),
            facts=[(name, value) for name, value in facts(sweep) if name != "version"],
            viewed=viewed,
        )

    @staticmethod
    def _row(counts: Counter[Any], key: tuple[str, ...]) -> tuple[str, str, str]:
        kept, dropped = counts[*key, True], counts[*key, False]
        name = key[0].replace("_", " ") if len(key) == 1 else f"thinking {key[0]}, answer {key[1]}"
        return name, f"{kept + dropped:,}", f"{kept:,}"


def _tokens(name: str, thinking: Counter[int], answers: int) -> tuple[str, ...]:
    lengths = sorted(thinking)
    half, total = thinking.total() / 2, sum(length * number for length, number in thinking.items())
    median, before = lengths[0], 0
    for median in lengths:
        before += thinking[median]
        if before >= half:
            break
    mean, answer = total / thinking.total(), answers / thinking.total()
    return name, f"{mean:,.1f}", f"{median:,}", f"{lengths[-1]:,}", f"{answer:,.1f}", count(total + answers)


def _took(decode: Mapping[str, Any]) -> str:
    decoded = decode["thinking_tokens_decoded"] + decode["answer_tokens_decoded"]
    if not decoded:
        return "Nothing was decoded for it, for the store had every trace."
    return f"{count(decoded)} tokens were decoded for it in {decode['seconds']:,.0f} s."


def _viewed(row: Mapping[str, Any], fate: str, reason: str, whole: bool) -> ViewedRow:
    tokens = f"{row['thinking_tokens']:,} + {row['answer_tokens']:,} tokens"
    ends = f"thinking {row['thinking_end']}, answer {row['answer_end']}"
    about = (f"{row['id']}, sample {row['sample']}", str(row["source"]), row["verdict"].replace("_", " "), ends, tokens)
    texts = [("trace", row["trace"]), ("answer", row["answer"]), ("reference", row["reference"] or "none")]
    return ViewedRow(fate, reason, about, row["question"], texts, whole)


def _that_fit(drawn: Drawn[ViewedRow], megabytes: float) -> list[ViewedRow]:
    """As many as fit; those that are asked for come first."""
    return list(_up_to(drawn, megabytes * 1e6))


def _up_to(rows: Drawn[ViewedRow], most: float) -> Iterator[ViewedRow]:
    size = 0
    for row in rows:
        size += len(packed([row.record("")]))
        if size > most and not row.whole:
            return
        yield row


def _markdown(made: Sequence[MadeRows], request: ReportRequest) -> str:
    parts = [f"# {escaped(request.title)}"]
    for each in made:
        parts += [f"## {escaped(each.name)}", escaped(each.said), each.funnel.markdown().rstrip()]
        for listed in each.tables:
            cells = [[escaped(cell) for cell in row] for row in listed.rows]
            parts += [f"### {listed.title}", table(listed.columns, cells)]
        parts.append("\n".join(f"- {name}: {escaped(value)}" for name, value in each.facts))
    parts.append(f"Samples are in `report.html` beside this file. Written by `{request.command}`.")
    return "\n\n".join(parts) + "\n"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
