"""What is known of a sweep that decodes.

It reads the same files as the run itself, and writes none of them, whatever it finds: units that are whole are looked
up in the index of traces, read back, graded in processes of this machine and counted. A judge is not asked for this, so
what only a judge can decide counts as not graded yet, and points have the range that leaves.

A look that finds nothing new costs milliseconds, also of a large sweep: blocks double, so all that is drawn before the
end is less than what is drawn at the end; and the index, which is sorted anew where files were added, is read the less
often the longer that takes.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.figures.tables import as_record
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.live.rates import Rates
from jobs.evaluate.report.charts import WIDTHS, Chart, chart
from jobs.evaluate.report.results import PlottedCurve, percent, tokens
from jobs.evaluate.rows import write_rows
from jobs.evaluate.run import Sweep, block_of, prepare
from jobs.evaluate.samples import SampledPrompt
from jobs.evaluate.stats.curves import drawn
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.sweep.grown import is_whole
from jobs.evaluate.traces.files import DamagedFile, Index
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.html import own_file, template
from orchestrator.job.record import LiveSection
from orchestrator.store.records import read_passing
from orchestrator.store.step_folders import StepFolder

LOOK_SECONDS = 5.0
"""Between looks at the index, at least."""
SHARE = 0.02
"""Of the time, that looking at the index may take."""


@dataclass(frozen=True)
class Shown:
    """The curves of one task, as far as blocks are whole."""

    task: str
    curves: tuple[PlottedCurve, ...]
    charts: tuple[Chart, ...]
    """One for each of :data:`WIDTHS`."""
    items: int
    of: int

    @property
    def whole(self) -> bool:
        return self.items == self.of


class _Blocks:
    """A sweep's blocks of items, and what those that are whole come to."""

    def __init__(self, sweep: Sweep):
        self.shown: list[Shown] = []
        self._sweep = sweep
        self._index = Index(sweep.folder, report=None)
        self._blocks: list[list[SampledPrompt]] = []
        self._graded = 0
        """Blocks that are drawn."""
        block = block_of(sweep.questions)
        for question in sweep.questions:
            number = block[question.units[0].item]
            self._blocks += [[] for _ in range(len(self._blocks), number + 1)]
            self._blocks[number].append(question)
        self._left = deque(
            (number, unit)
            for number, questions in enumerate(self._blocks)
            for question in questions
            for unit in question.units
        )
        """Those that are not known to be whole, in the order of blocks."""

    def refresh(self, config: EvaluateConfig) -> float:
        """Reads what is new, and draws where another block is whole; returns the seconds that reading took.

        Raises DamagedFile where files are just merged.
        """
        began = time.monotonic()
        self._index.refresh()
        read = time.monotonic() - began
        trees = self._sweep.replica.trees
        while self._left:
            unit = self._left[0][1]
            known = self._index.unit(unit.item, unit.sample)
            if not is_whole(trees[unit.tree], unit.room, known.extent):
                break
            self._left.popleft()
        whole = self._left[0][0] if self._left else len(self._blocks)
        if whole > self._graded:
            self.shown = self._draw(config, {id(each) for block in self._blocks[:whole] for each in block})
            self._graded = whole
        return read

    def _draw(self, config: EvaluateConfig, asked: Set[int]) -> list[Shown]:
        sweep, policies = self._sweep, config.policies
        with tempfile.TemporaryDirectory(prefix="live") as folder, Grader() as grader:
            path = Path(folder) / "samples.parquet"
            questions = [question for question in sweep.questions if id(question) in asked]  # in the order of tables
            write_rows(config, path, questions, sweep.replica.trees, sweep.prompter, self._index, grader)
            outcomes = read(path, [policy.name for policy in policies])
        records = as_record(drawn(outcomes, policies, config.seed, config.at_k))
        curves = [PlottedCurve(each["task"], each["curve"], each["points"]) for each in records]
        of = {task.task: {each.item.id for each in sweep.questions if each.task.name == task.task} for task in outcomes}
        shown = []
        for task in outcomes:
            own = tuple(curve for curve in curves if curve.task == task.task)
            charts = tuple(chart(own, width) for width in WIDTHS)
            shown.append(Shown(task.task, own, charts, len(task.items), len(of[task.task])))
        return shown


class SweepFollower:
    """Looks at one sweep again and again."""

    def __init__(self, config: EvaluateConfig, context: StepContext):
        self._config = config
        self._context = context
        self._blocks: _Blocks | None = None
        self._due = -inf
        """When the index is looked at next."""
        self._rates = Rates()

    def look(self) -> LiveSection | None:
        """What can be said now; None of a server that only chats, whose answers have no traces to read."""
        if self._config.chat is not None:
            return None
        if StepFolder(self._context.storage).live_lease() is None:
            self._rates = Rates()  # whatever decoded is gone
        else:
            self._rates.tell(self._context.storage)
        if (began := time.monotonic()) >= self._due and self._begun():
            read: float | None = None
            with suppress(StepError, DamagedFile):  # not there yet, or merged into another file meanwhile
                self._blocks = self._blocks or _Blocks(prepare(self._config, self._context))
                read = self._blocks.refresh(self._config)
            now = time.monotonic()
            self._due = now + max(LOOK_SECONDS, (now - began if read is None else read) / SHARE)
        return LiveSection(self._html(), own_file("jobs.evaluate.report", "page.css"))

    def _begun(self) -> bool:
        """Whether the step has said where its traces are: to prepare its sweep before would make that folder for it."""
        return self._blocks is not None or bool(read_passing(self._context.storage / "uses.json", list[str]))

    def _html(self) -> str:
        shown = [] if self._blocks is None else self._blocks.shown
        return template("jobs.evaluate.live", "section.html.j2").render(
            name=self._context.name,
            tasks=[
                {
                    "task": each.task,
                    "whole_items": f"{each.items:,}",
                    "all_items": f"{each.of:,}",
                    "left": f"{each.of - each.items:,}",
                    "whole": each.whole,
                    "charts": each.charts,
                    "rows": _rows(each.curves),
                }
                for each in shown
            ],
            rates=self._rates.rows(),
        )


def _rows(curves: Sequence[PlottedCurve]) -> list[tuple[str, str, str, str]]:
    """Each policy once: its name, accuracy, interval and tokens."""
    points = {str(point["policy"]): point for curve in curves if curve.scored == "accuracy" for point in curve.points}
    return [
        (
            name,
            percent(point["accuracy"]),
            f"{percent(point['accuracy_low'])} – {percent(point['accuracy_high'])}",
            tokens(point, "thinking_tokens"),
        )
        for name, point in points.items()
    ]
