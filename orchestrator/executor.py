"""Runs the steps of a plan on Ray: each as soon as those it takes are done, several side by side.

The executor keeps nothing that matters in memory. What a step is, how far it got and whether it is done stand in the
store, so an executor that is killed is replaced by the next one with the same command. While it lives it holds a lease
on every step it will run and renews it, which is how a second run of the same experiment knows to stay away.

A step runs in a Ray task of its own beside the driver, without CPUs: it is the step's controller, and asks Ray itself
for the workers it needs, which hold the models. Killing the task kills what it started, because Ray ends actors with
their owner; the placement groups that it made have its name, and are removed by that.
"""

from __future__ import annotations

import signal
import threading
import time
import uuid
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator import connection
from orchestrator.display import Display
from orchestrator.experiment import Experiment
from orchestrator.failures import Failure, cause, diagnose
from orchestrator.interrupts import Interrupted, signals_noted
from orchestrator.job.config import StepConfig
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.controllers import this_process_controls
from orchestrator.job.errors import OutOfMoney, StepError
from orchestrator.job.extensions import Lazy
from orchestrator.job.groups import group_prefix, remove_groups
from orchestrator.job.imports import import_meanwhile
from orchestrator.job.retries import Losses
from orchestrator.logs import tail
from orchestrator.plan import PlannedStep, estimates
from orchestrator.provenance import FILE as PROVENANCE
from orchestrator.provenance import provenance
from orchestrator.registry import JOBS
from orchestrator.spending import Accounts, OverCost, expect
from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease
from orchestrator.store.records import DamagedRecord, write_json_atomically, write_note
from orchestrator.store.step_folders import StepFolder, Store
from orchestrator.store.step_leases import heartbeat, leased
from orchestrator.store.storage import storage_of
from orchestrator.tracking.mirror import Mirror

POLL = 0.25
"""Seconds between looks at running steps."""
CLUSTER = 5.0
"""Seconds between looks at whether this machine is still part of the cluster."""

SHARED_PROCESSES = 4
"""In which short steps run, side by side."""

SHOW = 1.0
"""Seconds between looks at how far running steps are: each is a request where the store is an object store."""

TAIL = 12
"""Lines of its log that are shown of a failed step."""


def _run_step(kind: str, config: StepConfig, context: StepContext) -> None:
    this_process_controls(kind in JOBS.ours)
    context.redirect_output("controller")
    try:
        write_note(context.storage / PROVENANCE, provenance(), durable=False)
        for each in context.inputs.values():
            _verify(each)
        JOBS[kind].run(config, context)
        context.deliver()
        if faults := list(config.PRODUCES.faults(context.storage / "output")):
            raise StepError(f"job {kind} made no {config.PRODUCES.KIND}: its output {'; '.join(faults)}")
    finally:
        context.leave()


def _verify(taken: StepInput) -> None:
    """Raises StepError where what a step takes is not what was written; from a bucket that is seen as it is fetched."""
    if storage_of(taken.storage).remote:
        return
    try:
        StepFolder(taken.storage.parent).verify()
    except DamagedRecord as error:
        raise StepError(f"{taken.name}: damaged: {error}; the same command makes {taken.name} again first") from error


_task = ray.remote(num_cpus=0, max_retries=0)(_run_step)


@dataclass
class _Attempt:
    task: ray.ObjectRef
    number: int
    started: float


def run(experiment: Experiment, store: Store, planned: list[PlannedStep], display: Display, mirror: Mirror) -> bool:
    """Runs what is not done; returns whether everything is now. Must be called from the main thread.

    Raises StoreError when another live run has one of the steps, before anything starts; Interrupted on SIGINT or
    SIGTERM, and OverCost when it comes to its max_cost, after everything it started has stopped; ClusterLost when Ray
    on this machine has died.
    """
    todo = [step for step in planned if step.verdict != "done"]
    accounts = Accounts({step.step.name: (step.folder, step.step.config) for step in planned}, experiment.max_cost)
    accounts.check()
    for step in todo:
        step.folder.create(step.identity)
    foreseen = estimates(planned)
    for step in todo:
        if estimate := foreseen.get(step.step.name):
            expect(step.folder, estimate)
    folders = [step.folder for step in todo]
    lease = Lease.by_this_process(uuid.uuid4().hex[:8])
    with (
        leased(folders, lease),
        heartbeat(folders, lease) as (taken_over, cancelled),
        connection.connected(),
        # Innermost, because ray.init installs a handler of its own.
        signals_noted() as signals,
    ):
        return _Run(
            experiment, store, planned, display, mirror, lease.run, taken_over, cancelled, signals, accounts
        ).loop()


class _Run:
    """One run of an experiment: which steps wait, run, are done or failed."""

    def __init__(
        self,
        experiment: Experiment,
        store: Store,
        planned: list[PlannedStep],
        display: Display,
        mirror: Mirror,
        run: str,
        taken_over: threading.Event,
        cancelled: threading.Event,
        signals: list[int],
        accounts: Accounts,
    ):
        self.experiment = experiment
        self.store = store
        self.planned = {step.step.name: step for step in planned}
        self.display = display
        self.mirror = mirror
        self.run = run
        self.taken_over = taken_over
        self.cancelled = cancelled
        self.signals = signals
        self.accounts = accounts
        self.done = {name for name, step in self.planned.items() if step.verdict == "done"}
        self.failed: dict[str, str] = {}
        self.running: dict[str, _Attempt] = {}
        self.restart_at: dict[str, tuple[float, int]] = {}
        self.look_at_cluster = 0.0
        self.losses = {name: Losses(step.step.config.resources.retries) for name, step in self.planned.items()}
        self.shown = 0.0

    def loop(self) -> bool:
        waiting = [name for name in self.planned if name not in self.done]
        why = None
        for name in waiting:
            folder = self.planned[name].folder
            folder.forget_losses()
            folder.write_status(state="waiting", run=self.run, error=None, restarts={}, reason=None)
        try:
            while waiting or self.running or self.restart_at:
                if self.signals:
                    raise Interrupted(self.signals[0])
                if self.cancelled.is_set():
                    raise Interrupted(signal.SIGTERM)
                if self.taken_over.is_set():
                    raise StoreError("another run has taken over a step of this one, which seemed dead; this one stops")
                self._see_cluster()
                if waiting and not (waiting := [name for name in waiting if not self._started_or_skipped(name)]):
                    self._get_ready_for_the_end()
                self._restart_due()
                self._collect()
                self._show()
        except OverCost as error:
            why = str(error)
            raise
        finally:
            self._stop(list(self.running), why)
            for name in [*waiting, *self.restart_at]:
                self.planned[name].folder.write_status(state="cancelled", finished=time.time(), error=why)
        return not self.failed

    def _get_ready_for_the_end(self) -> None:
        """While the last steps run, so that it is done when they are."""
        reports = [JOBS[kind].report for kind in {step.step.kind for step in self.planned.values()}]
        import_meanwhile(*(report.module for report in reports if isinstance(report, Lazy)))
        self.mirror.get_ready()

    def _see_cluster(self) -> None:
        """Raises ClusterLost when Ray counts this machine as dead: what is asked for then never starts."""
        if time.monotonic() < self.look_at_cluster:
            return
        self.look_at_cluster = time.monotonic() + CLUSTER
        connection.check()

    def _started_or_skipped(self, name: str) -> bool:
        inputs = self.planned[name].inputs
        if lost := [target for target in inputs if target in self.failed]:
            self._fail(name, f"not run: {lost[0]} failed", state="skipped")
            return True
        if self.done.issuperset(inputs) and self._has_room(name):
            self._start(name, attempt=0)
            return True
        return False

    def _has_room(self, name: str) -> bool:
        """Short steps share few processes, or thousands of them would start as many. What a server charges for has
        all that max_cost leaves, one step after the other."""
        running = [self.planned[other].step.config for other in self.running]
        if self.experiment.max_cost is not None and self.planned[name].step.config.charged():
            return not any(config.charged() for config in running)
        if not JOBS[self.planned[name].step.kind].short:
            return True
        return sum(JOBS[self.planned[other].step.kind].short for other in self.running) < SHARED_PROCESSES

    def _start(self, name: str, attempt: int) -> None:
        planned = self.planned[name]
        folder, config = planned.folder, planned.step.config
        folder.unmark_done()
        self.accounts.start(name)
        write_json_atomically(folder.path / "config.json", config.model_dump(mode="json"), durable=False)
        context = planned.context(self.experiment, self.store, attempt, self.accounts.left())
        now = time.time()
        folder.write_status(state="running", run=self.run, attempt=attempt, started=now, finished=None, error=None)
        # Beside this process, on a machine that no cloud takes back: losing another one then ends no step.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        kind = planned.step.kind
        # Tasks of the same environment share processes, one after the other: the next step finds imported what it
        # needs. Not so another attempt, nor a package's own kind of step, which may hold models where ours do not.
        shares = attempt == 0 and kind in JOBS.ours
        environment = None if shares else {"env_vars": {"SCALING_STEP": f"{name}, attempt {attempt}"}}
        task = _task.options(scheduling_strategy=here, runtime_env=environment).remote(kind, config, context)
        self.running[name] = _Attempt(task, attempt, time.monotonic())
        self.display.started(name, planned.step.config.describe(), attempt)
        self.mirror.watch(planned)

    def _restart_due(self) -> None:
        now = time.monotonic()
        for name, (due, attempt) in list(self.restart_at.items()):
            if now >= due:
                del self.restart_at[name]
                self._start(name, attempt)

    def _collect(self) -> None:
        """Takes in the steps that have ended, waiting up to `POLL` seconds for one."""
        tasks = {attempt.task: name for name, attempt in self.running.items()}
        if not tasks:
            time.sleep(POLL)
            return
        ray.wait(list(tasks), num_returns=1, timeout=POLL)
        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
        for task in ended:
            name = tasks[task]
            attempt = self.running.pop(name)
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                self._give_back(name)
                self.accounts.stop(name)
                if isinstance(raised := cause(error), OutOfMoney):
                    over = self.accounts.out_of_money(name, str(raised))
                    self.planned[name].folder.write_status(state="cancelled", finished=time.time(), error=str(over))
                    raise over from None
                self._failed_attempt(name, attempt, diagnose(error))
            else:
                self.accounts.stop(name)
                self._finish(name, attempt)
        for name, attempt in list(self.running.items()):
            limit = self.planned[name].step.config.resources.timeout
            if limit is not None and time.monotonic() - attempt.started > limit:
                self._stop([name])
                late = Failure("timeout", f"took longer than its timeout of {limit:g} s (resources.timeout)")
                self._failed_attempt(name, attempt, late)

    def _finish(self, name: str, attempt: _Attempt) -> None:
        folder = self.planned[name].folder
        folder.mark_done()
        folder.write_status(state="done", finished=time.time(), error=None)
        self.done.add(name)
        self.display.finished(name, time.monotonic() - attempt.started)
        self.mirror.finished(self.planned[name])

    def _failed_attempt(self, name: str, attempt: _Attempt, failure: Failure) -> None:
        losses, folder = self.losses[name], self.planned[name].folder
        if not failure.final and losses.count(failure.cause):
            delay, number = losses.delay(failure.cause), attempt.number + 1
            self.restart_at[name] = (time.monotonic() + delay, number)
            error = f"{failure.cause}: {failure.message}"
            folder.write_status(state="restarting", error=error, restarts=losses.by_cause(), reason=error)
            self.display.say(f"{name}: {error}; restart {number} ({losses.so_far(failure.cause)}) in {delay:.0f} s")
            return
        spent = f" after {attempt.number} restarts" if attempt.number else ""
        self._fail(name, f"{failure.cause}{spent}: {failure.message}")

    def _fail(self, name: str, error: str, state: str = "failed") -> None:
        planned = self.planned[name]
        self.failed[name] = error
        planned.folder.write_status(state=state, finished=time.time(), error=error)
        self.display.failed(name, error, [] if state == "skipped" else self._tail(planned))
        self.mirror.finished(planned)

    def _tail(self, planned: PlannedStep) -> list[str]:
        return tail(planned.folder.logs / "controller.txt", TAIL)

    def _show(self) -> None:
        if time.monotonic() - self.shown < SHOW:
            return
        self.shown = time.monotonic()
        for name in self.running:
            self.accounts.tick(name)
            if progress := self.planned[name].folder.read_progress():
                self.display.progress(name, progress["done"], progress["total"], progress["unit"], progress.get("left"))
        self.accounts.check()

    def _give_back(self, name: str) -> None:
        """Gives back what a step holds whose controller was killed: Ray itself would only when the whole run ends."""
        remove_groups(group_prefix(self.planned[name].folder.path))

    def _stop(self, names: list[str], why: str | None = None) -> None:
        """Ends steps that are running, and waits until Ray says that they have ended. `why` is for people."""
        tasks = [self.running[name].task for name in names]
        for task in tasks:
            ray.cancel(task, force=True)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=30)
        for name in names:
            del self.running[name]
            self._give_back(name)
            self.accounts.stop(name)
            self.planned[name].folder.write_status(state="cancelled", finished=time.time(), error=why)
