"""What a kind of step is and can do: one :class:`Job`, which is all that the control plane knows of it.

A kind is a package with a module ``job`` that has a ``JOB``. What a job cannot do is None, and the verbs that need it
say so. Functions whose modules are heavy are given as :func:`orchestrator.job.extensions.lazy`, because every
experiment file is checked against the record before torch, ray, vllm or transformers is imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.job.config import Problem, StepConfig, Upcoming
from orchestrator.job.context import StepContext

if TYPE_CHECKING:
    from orchestrator.job.estimate import Estimate
    from orchestrator.job.frames import Frames
    from orchestrator.job.usage import Spending
    from orchestrator.store.step_folders import StepFolder
    from orchestrator.store.storage import StoragePath


@dataclass(frozen=True)
class Regraded:
    """What grading a finished step again came to. Nothing of it is in the step's output before `apply` was called."""

    title: str
    """One line: by what it was graded before and now, and how many verdicts differ."""
    by_group: Sequence[Mapping[str, str]]
    """What changed, summed up: rows of a table, all with the same columns."""
    items: Sequence[Mapping[str, str]]
    """Every answer whose verdict changed."""
    file: StoragePath
    """What has all of `items`."""
    changed: bool
    """Whether the output would be another."""
    revised: bool
    """Whether what other steps take of it would be: they are to be made again then."""
    apply: Callable[[], None]
    """Puts it into the output, and publishes anew what follows from it."""


@dataclass(frozen=True)
class Compared:
    """One side of a comparison, as the kind that made it is handed it."""

    name: str
    """What tables call it."""
    output: Path
    """The folder with what the step published."""


class Comparer(Protocol):
    """Two results of a kind against each other, as text.

    Raises :class:`StepError` where they cannot be compared.
    """

    def __call__(self, first: Compared, second: Compared, points: tuple[str, str] | None = None) -> str: ...


@dataclass(frozen=True)
class FinishedStep:
    """A step that is done, as the report of its kind is handed it."""

    config: StepConfig
    context: StepContext
    seconds: float | None
    """That its last attempt took."""
    provenance: Mapping[str, Any] | None
    """:func:`orchestrator.provenance.provenance` of that attempt; None where it was not kept."""
    spent: Spending | None = None
    """What all attempts came to; None where it was not kept."""
    expected: Spending | None = None
    """What was expected before the first; None where that was not known."""


@dataclass(frozen=True)
class ReportRequest:
    """A report that is asked for."""

    title: str
    folder: Path
    """Where to write ``report.html`` and ``report.md``; it is there."""
    command: str
    """What writes it again: a reader is told what to add to see more."""
    items: tuple[str, ...] = ()
    """Items that it must show in full, by id."""
    megabytes: float = 4.0
    """That samples may take in it."""


class ReportWriter(Protocol):
    """One report on finished steps of a kind.

    Raises :class:`StepError` for a request that cannot be met. Decodes and trains nothing.
    """

    def __call__(self, steps: Sequence[FinishedStep], request: ReportRequest) -> None: ...


@dataclass(frozen=True)
class ListedStep:
    """A finished step as a store shows it, whatever experiment it is of."""

    store: str
    """Where that store is, as it was named."""
    folder: StepFolder
    version: str
    """Another one once its result was written again."""
    finished: float
    """When, in seconds since 1970."""
    page: StoragePath | None
    """The newest report that it is in; None where there is none."""
    page_version: str
    page_steps: tuple[str, ...]
    """The folders of all the steps that it is about."""
    provenance: Callable[[], Mapping[str, Any] | None]
    """As of :class:`FinishedStep`; read where it is asked for."""
    spent: Callable[[], Spending | None]

    @property
    def key(self) -> str:
        """A file name for it, unlike that of the same step in another store."""
        return f"{self.folder.path.name}-{hashlib.sha256(self.store.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class BoardRequest:
    """A board that is asked for."""

    folder: Path
    """Where it is written to; what a board left there is used again."""
    command: str
    against: str | None = None
    """The step that others are compared with, by name or folder; None: the best of each task."""


class BoardWriter(Protocol):
    """A page, as a folder of static files, on finished steps of a kind, however many.

    Returns a line on what is in it. Raises :class:`StepError` for a request that cannot be met.
    """

    def __call__(self, steps: Sequence[ListedStep], request: BoardRequest) -> str: ...


@dataclass(frozen=True)
class LiveSection:
    """What is shown of a step that runs: HTML, made by a template that escapes (:mod:`orchestrator.job.html`), and the
    style that it needs."""

    html: str
    css: str = ""


class Follower(Protocol):
    """Looks at one running step, as often as a page is refreshed, and reads its store alone."""

    def look(self) -> LiveSection | None:
        """What can be said now; None where that is nothing yet."""


class Exporter(Protocol):
    """Writes a finished step to a folder, which is there, in a format of other tools.

    `takers` are the finished steps of the experiment that took what it made. Raises :class:`StepError` where it cannot.
    """

    def __call__(self, step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None: ...


@dataclass(frozen=True)
class FrontierRequest:
    """A frontier that is asked for."""

    budgets: tuple[float, ...] = ()
    """Tokens a question, to say what to do for; none: what its own points take."""
    plot: Path | None = None
    """Where to draw it, as one HTML page."""


class FrontierFinder(Protocol):
    """What of everything that finished steps of a kind can answer is worth its cost, as Markdown.

    Raises :class:`StepError` where that cannot be told.
    """

    def __call__(self, steps: Sequence[FinishedStep], request: FrontierRequest) -> str: ...


@dataclass(frozen=True)
class TryRequest:
    """How a model is to be tried."""

    model: str
    """Where no config says: a folder, a name on the hub, or ``${step}``."""
    fields: Mapping[str, Any]
    """What is known of it then, as fields of the kind's config."""
    ask: str | None = None
    """The one question; None: a prompt is opened."""
    append: tuple[str, ...] = ()
    """Texts to append, one after the other, each where thinking ended before."""
    cut: tuple[int, ...] = ()
    """Thinking tokens after which it is cut and answered, each a try of its own."""
    budget: int | None = None
    effort: str | None = None
    temperature: float | None = None
    seed: int | None = None
    save: Path | None = None
    """A file that gets a JSON line of every try."""
    as_json: bool = False
    port: int | None = None
    """Where a page of this machine's own is served instead of a prompt; 0: anywhere."""


class Trier(Protocol):
    """Lets somebody try a model: that of `config`, or of the request where there is none.

    Raises :class:`StepError` for a model or a request that cannot be tried.
    """

    def __call__(self, config: Any | None, context: StepContext, request: TryRequest) -> None: ...


@dataclass(frozen=True)
class Job:
    """What a kind of step is and can do."""

    config: type[StepConfig]
    """The fields of its steps, and the kind of output that it makes."""
    run: Callable[[Any, StepContext], None]
    """Does the work, once, in a process of a Ray worker. What it writes under ``context.output`` is the step's result;
    returning means done."""
    check: Callable[[Any, Mapping[str, Upcoming]], Iterable[Problem]] | None = None
    """Checks of a step that load what it will load itself: asked only of what would run, before anything starts."""
    estimate: Callable[[Any, Mapping[str, Upcoming]], Estimate] | None = None
    """What a step would take: memory, time and cost, from its config and the steps before it."""
    forecast: Callable[[Any, Mapping[str, Upcoming]], object | None] | None = None
    """What a step will have made, one of :mod:`jobs.forecasts`, for the estimates of those that take it."""
    look: Callable[[Any, StepContext], str] | None = None
    """Shows what a step would work on, as text, before it runs."""
    regrade: Callable[[Any, StepContext], Regraded] | None = None
    """Gives a finished step's verdicts again."""
    compare: Comparer | None = None
    replay: Callable[[Any, StepContext, str | None], str] | None = None
    """What a finished step would have come to under other rules, as text; the last is what was asked for, in YAML.
    Raises StepError in one line."""
    report: ReportWriter | None = None
    board: BoardWriter | None = None
    exports: Mapping[str, Exporter] = field(default_factory=dict)
    """By the format's name."""
    follow: Callable[[Any, StepContext], Follower] | None = None
    """What looks at a step of this kind while it runs."""
    frontier: FrontierFinder | None = None
    frames: Callable[[Any, StepContext], Frames] | None = None
    """A finished step's results, for Python."""
    try_model: Trier | None = None
    """Of several kinds that can, the first opens models that no step of theirs names."""
    short: bool = False
    """Whether it leaves nothing behind in its process, so that one process may do many of its steps: to start one takes
    longer than such a step."""
