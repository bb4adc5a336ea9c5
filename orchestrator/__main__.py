"""The command line. Thin: each verb parses, checks the experiment, and imports what it needs only then.

Exit status: 0 finished, 1 a step failed, 2 bad input and nothing started, 3 stopped by max_cost, 4 steps would run
(only where that is asked), 130 or 143 interrupted.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.store.errors import StoreError, StoreLost, no_space
from orchestrator.terminal import plain

if TYPE_CHECKING:
    from orchestrator.display import Display
    from orchestrator.experiment import Experiment
    from orchestrator.plan import PlannedStep
    from orchestrator.store.step_folders import Store
    from orchestrator.tracking.mirror import Mirror

FAILED, BAD_INPUT, OVER_COST, WOULD_RUN = 1, 2, 3, 4

_OF_PATHS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ENXIO),
    *(errno.EISDIR, errno.ENOTDIR),
)
"""What a file system answers about a path that someone gave, and no mistake of the program's."""

LONGEST_RAY_FOLDER = 107 - len("/ray/session_2026-11-27_09-00-22_123456_4194304/sockets/plasma_store")
"""Characters: what is left of a socket's name."""

MOST_MEGABYTES = 10_000.0

WATCH_SECONDS = 2.0

CANCEL_SECONDS = 60.0
"""Within which a run that was asked to stop has stopped: its next heartbeat, and the end of what it started."""


class _Refused(click.ClickException):
    """Bad input: one line for each thing that is wrong, exit status 2."""

    exit_code = BAD_INPUT

    def show(self, file: object = None) -> None:
        click.echo(plain(self.message), err=True)


class _Commands(click.Group):
    """Commands that say in one line that the store cannot be used or a disk is full, whichever of them met it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreLost as error:
            raise click.ClickException(str(error)) from None
        except StoreError as error:
            raise _Refused(str(error)) from None
        except OSError as error:
            if (full := no_space(error)) is not None:
                raise click.ClickException(full) from None
            if error.errno not in _OF_PATHS or not error.filename:
                raise
            raise _Refused(f"{error.filename}: {error.strerror}") from None


class _Megabytes(click.FloatRange):
    """A size that a page can have. Click's own range lets through what is not a number."""

    def __init__(self) -> None:
        super().__init__(min=0, max=MOST_MEGABYTES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click.BadParameter."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number: give megabytes from 0 to {MOST_MEGABYTES:,.0f}", param, ctx)
        return number


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Test-time-scaling experiments: fine-tune, decode a sweep in one pass, compare curves in MLflow.

    FILE is an experiment, such as experiments/scaling_sweep.yaml.
    """


_file = click.argument("file", type=click.Path(path_type=Path))
_set = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value: steps.sweep.budgets='[16,32]'."
)


@main.command()
@_file
@_set
def run(file: Path, overrides: tuple[str, ...]) -> None:
    """Run what is not done, then show the result.

    On the cluster that RAY_ADDRESS names (as in a Ray job), else on a local one for this run alone.
    """
    experiment, store, planned = _prepare(file, overrides, starts=True)
    from orchestrator.display import Display, console
    from orchestrator.reporting import command, write_reports
    from orchestrator.results_view import served, show_results
    from orchestrator.tracking.mirror import Mirror
    from orchestrator.tracking.tracker import without_credentials

    out = console()
    for note in experiment.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    store.check_writable()
    with Mirror(experiment, out) as mirror, Display(out) as display:
        if all(step.verdict == "done" for step in planned):
            display.say(f"{experiment.name}: everything is done, nothing to run")
            finished = True
        else:
            finished = _execute(experiment, store, planned, display, mirror)
        pages = write_reports(experiment, store, planned, command(file, overrides), which="missing")
        for step in planned:
            mirror.catch_up(step)
    show_results(planned, pages)
    click.echo(f"MLflow: {mirror.page or without_credentials(experiment.tracking)}{served(experiment.tracking)}")
    sys.exit(0 if finished else FAILED)


def _execute(
    experiment: Experiment, store: Store, planned: list[PlannedStep], display: Display, mirror: Mirror
) -> bool:
    """Runs what is not done; exits with 128 and the signal's number when told to stop, or with OVER_COST."""
    for step in planned:
        display.say(f"{step.step.name}: {step.verdict}{f' ({step.reason})' if step.reason else ''}")
    if problem := _no_room_for_sockets():
        raise _Refused(problem)
    from orchestrator import executor
    from orchestrator.connection import ClusterError, ClusterLost
    from orchestrator.interrupts import Interrupted
    from orchestrator.spending import OverCost
    from orchestrator.tracking.tracker import TrackingError

    try:
        mirror.check()
        return executor.run(experiment, store, planned, display, mirror)
    except Interrupted as interruption:
        display.say(f"interrupted ({interruption}); the same command continues")
        sys.exit(128 + interruption.signal_number)
    except ClusterLost as loss:
        display.say(str(loss))
        sys.exit(FAILED)
    except (ClusterError, TrackingError) as error:
        raise _Refused(str(error)) from None
    except OverCost as reached:
        display.say(str(reached))
        sys.exit(OVER_COST)


@main.command()
@_file
@_set
@click.option(
    "--cluster", type=click.Path(path_type=Path), help="A cluster file: whether its machines can ever hold each step."
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 4 where steps would run, with 0 only where none do.")
def plan(file: Path, overrides: tuple[str, ...], cluster: Path | None, detailed_exitcode: bool) -> None:
    """Show each step: done or would run, why, and what it would take."""
    experiment, _, planned = _prepare(file, overrides, starts=True)
    if cluster is not None:
        _placed_on(cluster, planned)
    from orchestrator.plan_view import show

    show(experiment, planned)
    if detailed_exitcode and any(item.verdict != "done" for item in planned):
        sys.exit(WOULD_RUN)


@main.command()
@_file
@_set
@click.option("--step", "name", help="Only this step.")
def look(file: Path, overrides: tuple[str, ...], name: str | None) -> None:
    """Show what steps would work on: data to learn from, and what of it is learned; the prompts of a sweep."""
    experiment, store, planned = _prepare(file, overrides, starts=True)
    from orchestrator.job.errors import StepError
    from orchestrator.registry import JOBS

    chosen = [(item, JOBS[item.step.kind].look) for item in planned if name in (None, item.step.name)]
    looks = [(item, look) for item, look in chosen if look is not None]
    if not looks:
        which = ", ".join(kind for kind in JOBS if JOBS[kind].look)
        raise _Refused(f"{file}: no step {name or ''} that can be looked at before it runs: look is for {which}")
    outputs = {item.step.name: item for item in planned}
    for item, look in looks:
        if waiting := [target for target in item.inputs if outputs[target].verdict != "done"]:
            line = f"{item.step.name}: takes the output of {', '.join(waiting)}, not there yet: run it first"
            if item is looks[0][0]:
                raise _Refused(line)
            click.echo(line)
            continue
        try:
            text = look(item.step.config, item.context(experiment, store))
        except StepError as error:
            raise _Refused(f"{item.step.name}: {error}") from None
        click.echo(f"{item.step.name}\n{plain(text)}\n")


@main.command()
@_file
@_set
@click.option("--watch", is_flag=True, help="Look again every two seconds, until nothing runs any more.")
def status(file: Path, overrides: tuple[str, ...], watch: bool) -> None:
    """Show how far each step is, from the store alone: works while it runs, from any machine that sees the store."""
    experiment, store, planned = _prepare(file, overrides)
    from rich.live import Live

    from orchestrator.display import console, show_table
    from orchestrator.plan import plan as make_plan
    from orchestrator.progress import running, table

    out = console()
    if not watch:
        show_table(table(experiment, planned), out)
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(table(experiment, planned), refresh=True)
            if not running(planned):
                return
            time.sleep(WATCH_SECONDS)
            planned = make_plan(experiment, store)


@main.command()
@_file
@click.argument("step")
@_set
@click.option("--follow", is_flag=True, help="Go on while the step runs.")
def logs(file: Path, step: str, overrides: tuple[str, ...], follow: bool) -> None:
    """Show what the processes of STEP said: controller, ranks, replicas."""
    _, _, planned = _prepare(file, overrides)
    planned_step = next((item for item in planned if item.step.name == step), None)
    if planned_step is None:
        names = [item.step.name for item in planned]
        raise _Refused(f"{step!r} is not a step of {file}: it has {', '.join(names[:20])}{', …' * (len(names) > 20)}")
    from orchestrator.logs import follow as lines
    from orchestrator.store.storage import storage_of

    if not storage_of(planned_step.folder.logs).files():
        raise _Refused(f"{step}: nothing was logged, because it never ran as it is written now")
    with suppress(KeyboardInterrupt):
        for process, line in lines(
            planned_step.folder.logs, lambda: not follow or planned_step.folder.live_lease() is None
        ):
            click.echo(f"{process} | {line}")


@main.command()
@_file
@_set
def cancel(file: Path, overrides: tuple[str, ...]) -> None:
    """Stop a run of FILE, on whatever machine it is. What is done stays, and the same run command continues."""
    experiment, _, planned = _prepare(file, overrides)
    holders = {lease.run: lease for item in planned if (lease := item.folder.live_lease()) is not None}
    if not holders:
        click.echo(f"{experiment.name}: nothing is running")
        return
    for item in planned:
        if lease := item.folder.live_lease():
            item.folder.request_cancel(lease.run)
    click.echo(f"{experiment.name}: asked {', '.join(map(str, holders.values()))} to stop")
    deadline = time.monotonic() + CANCEL_SECONDS
    while any((lease := item.folder.live_lease()) is not None and lease.run in holders for item in planned):
        if time.monotonic() > deadline:
            raise click.ClickException(f"it has not stopped within {CANCEL_SECONDS:.0f} s: see its log, or kill it")
        time.sleep(0.2)
    click.echo("stopped; the same run command continues")


@main.command()
@_file
@_set
def verify(file: Path, overrides: tuple[str, ...]) -> None:
    """Read all of what FILE's finished steps wrote, whatever its size, and say of each step whether it is whole.

    Other commands read files up to 16 MiB when they look a step up, and go by the sizes of larger ones.
    """
    _, _, planned = _prepare(file, overrides)
    from rich.filesize import decimal

    from orchestrator.notes import look_at_notes
    from orchestrator.store.records import DamagedRecord

    damaged = False
    for item in planned:
        look_at_notes(item.folder)
        try:
            files, size = item.folder.verify()
        except DamagedRecord as error:
            damaged = True
            click.echo(f"{item.step.name}: damaged: {error}; run makes it again")
            continue
        try:
            files += item.folder.verify_tracked()
        except DamagedRecord as error:
            damaged = True
            click.echo(f"{item.step.name}: damaged: {error}; its output is whole, and MLflow is told no more of it")
        else:
            click.echo(f"{item.step.name}: {f'whole, {files} files, {decimal(size)}' if files else 'not finished'}")
    sys.exit(FAILED if damaged else 0)


@main.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_set
@click.option("--delete", is_flag=True, help="Delete what is listed. Without, nothing is touched.")
@click.option(
    "--unfinished", is_flag=True, help="Also steps that were begun, are not finished, and that no run works on."
)
def gc(files: tuple[Path, ...], overrides: tuple[str, ...], delete: bool, unfinished: bool) -> None:
    """List what the store of FILE... has that none of these experiments needs: old steps, and their traces.

    Name every experiment that is to be kept: the store does not know of files. What live and unfinished steps of others
    take is kept anyhow.
    """
    prepared = [_prepare(file, overrides) for file in files]
    stores = {str(store.root.absolute()): store for _, store, _ in prepared}
    if len(stores) > 1:
        named = ", ".join(stores)
        raise _Refused(f"these experiments have {len(stores)} stores ({named}): name the experiments of one")
    from rich.filesize import decimal
    from rich.table import Table

    from orchestrator.display import console, show_table
    from orchestrator.garbage import unreachable

    (store,) = stores.values()
    garbage = list(unreachable(store, [step for _, _, planned in prepared for step in planned], unfinished))
    table = Table(title=f"not needed in {store.root}", title_justify="left")
    table.add_column("folder", overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("last changed")
    for item in garbage:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.changed)) if item.changed else ""
        table.add_row(item.within, decimal(item.size), when)
    if garbage:
        show_table(table, console())
    total = f"{len(garbage)} folders, {decimal(sum(item.size for item in garbage))}"
    if not delete:
        click.echo(f"{total}; nothing was deleted: --delete does")
        return
    for item in garbage:
        item.remove()
    click.echo(f"deleted {total}")


@main.command()
@_file
@_set
def grade(file: Path, overrides: tuple[str, ...]) -> None:
    """Grade what is done once more, decoding nothing, and show which verdicts changed.

    Tables, curves, reports and MLflow then say what the graders of this version say.
    """
    experiment, store, planned = _prepare(file, overrides)
    from orchestrator import grade as grading
    from orchestrator.display import console
    from orchestrator.reporting import command, write_reports
    from orchestrator.tracking.mirror import Mirror

    if any(step.verdict == "done" for step in planned):
        store.check_writable()
    out = console()
    with Mirror(experiment, out) as mirror:
        finished = grading.grade(experiment, store, planned, out)
        write_reports(experiment, store, planned, command(file, overrides), which="there")
        for step in planned:
            mirror.catch_up(step)
    sys.exit(0 if finished else FAILED)


@main.command()
@_file
@_set
@click.option("--item", "items", multiple=True, metavar="ID", help="Show all samples of this item, with their traces.")
@click.option("--megabytes", type=_Megabytes(), help="Room for traces in the page. Default: 4.")
def report(file: Path, overrides: tuple[str, ...], items: tuple[str, ...], megabytes: float | None) -> None:
    """Write a page on what is done (curves, costs, every sample), and show its tables.

    The page is one HTML file without any network, beside the same in Markdown; MLflow gets it too.
    """
    experiment, store, planned = _prepare(file, overrides)
    from orchestrator.display import console
    from orchestrator.job.errors import StepError
    from orchestrator.reporting import command, write_reports
    from orchestrator.results_view import show_results
    from orchestrator.tracking.mirror import Mirror

    if any(step.verdict == "done" for step in planned):
        store.check_writable()
    try:
        pages = write_reports(experiment, store, planned, command(file, overrides), items, megabytes)
    except StepError as error:
        raise _Refused(str(error)) from None
    mirror = Mirror(experiment, console())
    for step in planned:
        mirror.catch_up(step)
    show_results(planned, pages)
    if undone := [step for step in planned if step.verdict != "done"]:
        click.echo(f"not done, so not in it: {', '.join(step.step.name for step in undone)}")
        for step in undone:
            if step.reason.startswith("damaged"):
                click.echo(f"{step.step.name}: {step.reason}; run makes it again")
        sys.exit(FAILED)


@main.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--points", nargs=2, metavar="A B", help="Compare FIRST's A with SECOND's B: policies as tables name them."
)
@click.option("--tracking", envvar="MLFLOW_TRACKING_URI", default="sqlite:///mlflow.db", help="Where MLflow runs are.")
def compare(first: str, second: str, points: tuple[str, str] | None, tracking: str) -> None:
    """Show what SECOND gains over FIRST, paired by item: two models, two steps, two runs.

    Each is the folder of a finished step (runs/sweep-e70df17c11b46128) or the id of an MLflow run.
    """
    from orchestrator.finished import finished
    from orchestrator.job.errors import StepError
    from orchestrator.markdown_view import show
    from orchestrator.registry import JOBS
    from orchestrator.store.records import DamagedRecord
    from orchestrator.tracking.tracker import TrackingError

    try:
        with finished(first, tracking) as (kind, one), finished(second, tracking) as (other_kind, other):
            comparer = JOBS[kind].compare
            if kind != other_kind or comparer is None:
                raise StepError(
                    f"compare: {one.name} is a step of {kind}, {other.name} of {other_kind}: give two sweeps"
                )
            show(comparer(one, other, points).rstrip())
    except (StepError, TrackingError, DamagedRecord) as error:
        raise _Refused(str(error)) from None


@main.command()
@click.argument("step")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Everyone may read it; else it is private.")
def push(step: str, name: str, public: bool) -> None:
    """Put what a finished step made on Hugging Face's hub: a dataset or a model.

    STEP is its folder (runs/s1k-e70df17c11b46128). The token is HF_TOKEN's, or what `hf auth login` left.
    """
    from orchestrator.finished import finished
    from orchestrator.job.errors import StepError
    from orchestrator.push import push as put
    from orchestrator.registry import JOBS
    from orchestrator.store.records import DamagedRecord
    from orchestrator.tracking.tracker import TrackingError

    try:
        with finished(step, "") as (kind, made):
            click.echo(put(JOBS[kind].config.PRODUCES, made.output, name, f"From {made.name}", public))
    except (StepError, TrackingError, DamagedRecord) as error:
        raise _Refused(str(error)) from None


def _prepare(
    file: Path, overrides: tuple[str, ...], starts: bool = False
) -> tuple[Experiment, Store, list[PlannedStep]]:
    """The checked experiment and its plan; exits with status 2 and a line per problem otherwise.

    For what `starts` steps, or says what that would do, all of the user's own data is read, and the hub is asked
    whether it has what is to be had there.
    """
    from orchestrator.experiment import ExperimentError, load
    from orchestrator.plan import plan as make_plan
    from orchestrator.store.step_folders import Store
    from orchestrator.store.storage import storage_path

    try:
        experiment = load(file, overrides, contents=starts)
    except ExperimentError as error:
        raise _Refused(str(error)) from None
    store = Store(storage_path(experiment.store))
    store.check_reachable()
    planned = make_plan(experiment, store)
    if starts:
        from orchestrator.hub import complaints

        steps = [item.step for item in planned if item.verdict != "done"]
        if said := list(complaints(experiment, steps)):
            raise _Refused(str(ExperimentError(experiment.file, said)))
    return experiment, store, planned


def _no_room_for_sockets() -> str:
    """Why Ray could not start here, where its folder's name alone tells; empty where it does not."""
    folder = os.environ.get("RAY_TMPDIR", "")
    if os.environ.get("RAY_ADDRESS") or len(os.fsencode(folder)) <= LONGEST_RAY_FOLDER:
        return ""
    return (
        f"RAY_TMPDIR: {folder} has {len(os.fsencode(folder))} characters, and Ray's sockets below it have names of 107 "
        f"at most: give a folder of at most {LONGEST_RAY_FOLDER}"
    )


def _placed_on(cluster: Path, planned: list[PlannedStep]) -> None:
    """Refuses steps that would run and that no machines of a cluster file can ever hold."""
    from cluster.node_types import ClusterFileError, read, unplaceable
    from orchestrator.job.local_files import file_problem

    if problem := file_problem(cluster):
        raise _Refused(f"{cluster}: {problem}: give a cluster file")
    try:
        types = read(cluster)
    except ClusterFileError as error:
        raise _Refused(str(error)) from None
    reasons = {
        item.step.name: unplaceable(item.step.config.demands(), types) for item in planned if item.verdict != "done"
    }
    lines = [f"steps.{name}.resources: {why} of {cluster}" for name, why in reasons.items() if why]
    if lines:
        raise _Refused("\n".join(lines))


if __name__ == "__main__":
    main()
