"""Runs the steps of a plan on Ray: each as soon as those it takes are done, several side by side.

The executor keeps nothing that matters in memory. What a step is, how far it got and whether it is done stand in the
store, so an executor that is killed is replaced by the next one with the same command. While it lives it holds a lease
on every step it will run and renews it, which is how a second run of the same experiment knows to stay away.

A step runs in a Ray task of its own beside the driver, without CPUs: it is the step's controller, and asks Ray itself
for the workers it needs. Killing the task kills what it started, because Ray ends actors and placement groups with
their owner.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.own_ray import own_cluster
from orchestrator.display import Display
from orchestrator.experiment import Experiment
from orchestrator.failures import Failure, diagnose
from orchestrator.job.config import StepConfig
from orchestrator.job.context import StepContext, StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.groups import group_prefix, remove_groups
from orchestrator.job.resources import NAMESPACE
from orchestrator.job.retries import Losses
from orchestrator.logs import tail
from orchestrator.plan import PlannedStep, estimates
from orchestrator.provenance import FILE as PROVENANCE
from orchestrator.provenance import provenance
from orchestrator.registry import JOBS
from orchestrator.spending import Accounts, OverCost, expect
from orchestrator.store.leases import Lease
from orchestrator.store.records import DamagedRecord, write_json_atomically, write_note
from orchestrator.store.step_folders import StepFolder, Store, heartbeat, leased
from orchestrator.store.storage import StoreError
from orchestrator.tracking.mirror import Mirror

POLL = 0.25
"""Seconds between looks at running steps."""
ANSWER_SECONDS = 5.0
"""How long the cluster that RAY_ADDRESS names may take to accept a connection."""

CLUSTER = 5.0
"""Seconds between looks at whether this machine is still part of the cluster."""

SHARED_PROCESSES = 4
"""In which short steps run, side by side."""

SHOW = 1.0
"""Seconds between looks at how far running steps are: each is a request where the store is an object store."""

TAIL = 12
"""Lines of its log that are shown of a failed step."""


def _run_step(kind: str, config: StepConfig, context: StepContext) -> None:
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
    if isinstance(taken.storage, Path):
        try:
            StepFolder(taken.storage.parent).verify()
        except DamagedRecord as error:
            raise StepError(
                f"{taken.name}: damaged: {error}; the same command makes {taken.name} again first"
            ) from error


class ClusterLost(Exception):
    """Ray's process on this machine has died, and with it all that the run could start. Says so, in one line."""


_in_its_own_process = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_run_step)
_in_a_shared_process = ray.remote(num_cpus=0, max_retries=0)(_run_step)


class ClusterError(Exception):
    """The cluster that RAY_ADDRESS names cannot be used. One line."""


def refused(address: str, error: Exception) -> str:
    """Why Ray would not connect to the cluster at `address`, in a line: other versions are named, and a token."""
    versions = re.findall(r"(Ray|Python): (\S+)", str(error))
    if "Version mismatch" in str(error) and len(versions) == 4:
        theirs, ours = (
            " and ".join(f"{name} {number}" for name, number in pair) for pair in (versions[:2], versions[2:])
        )
        return f"RAY_ADDRESS: the cluster at {address} has {theirs}, and this is {ours}: give both the same"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # Ray has this line also for a cluster that answered, and wanted a token.
    asked = "Failed to connect to Ray cluster" in first and os.environ.get("RAY_AUTH_MODE") != "token"
    token = "; something listens there: if it asks for a token, set RAY_AUTH_MODE=token" if asked else ""
    return f"RAY_ADDRESS: no cluster can be used at {address}: {first}{token}"


class Interrupted(Exception):
    """The run was told to stop, by Ctrl-C or ``ray job stop``. Carries the signal."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@dataclass
class _Attempt:
    task: ray.ObjectRef
    number: int
    started: float


@contextmanager
def connected() -> Iterator[None]:
    """A connection to the cluster that RAY_ADDRESS names (as it does in a Ray job), else a local one for this run."""
    address = os.environ.get("RAY_ADDRESS")
    with nullcontext() if address else own_cluster():
        local: dict[str, Any] = {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            if address:
                _reach(address)
            ray.init(address=address or "local", namespace=NAMESPACE, **quiet, **local)
        except (RuntimeError, OSError) as error:
            if address is None:
                raise
            raise ClusterError(refused(address, error)) from error
        try:
            yield
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError where nothing listens at `address`: Ray itself goes on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


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
        connected(),
        # Innermost, because ray.init installs a handler of its own.
        _signals() as signals,
    ):
        return _Run(
            experiment, store, planned, display, mirror, lease.run, taken_over, cancelled, signals, accounts
        ).loop()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in the list that it yields, for the loop to act on.

    Nothing is raised from the handler: it may run inside Ray's native code, or inside a clean-up that must not stop.
    """
    received: list[int] = []

    def note(signal_number: int, frame: FrameType | None) -> None:
        received.append(signal_number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
                waiting = [name for name in waiting if not self._started_or_skipped(name)]
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

    def _see_cluster(self) -> None:
        """Raises ClusterLost when Ray counts this machine as dead: what is asked for then never starts."""
        if time.monotonic() < self.look_at_cluster:
            return
        self.look_at_cluster = time.monotonic() + CLUSTER
        here = ray.get_runtime_context().get_node_id()
        if not any(node["NodeID"] == here and node["Alive"] for node in ray.nodes()):
            raise ClusterLost(
                "infrastructure: Ray's process on this machine (raylet) has died; run the same command again"
            )

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
        """Short steps share few processes, or thousands of them would start as many."""
        if not JOBS[self.planned[name].step.kind].short:
            return True
        return sum(JOBS[self.planned[other].step.kind].short for other in self.running) < SHARED_PROCESSES

    def _start(self, name: str, attempt: int) -> None:
        planned = self.planned[name]
        folder, config = planned.folder, planned.step.config
        folder.unmark_done()
        self.accounts.start(name)
        write_json_atomically(folder.path / "config.json", config.model_dump(mode="json"), durable=False)
        context = planned.context(self.experiment, self.store, attempt)
        now = time.time()
        folder.write_status(state="running", run=self.run, attempt=attempt, started=now, finished=None, error=None)
        # Beside this process, on a machine that no cloud takes back: losing another one then ends no step.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        run = _in_a_shared_process if JOBS[planned.step.kind].short else _in_its_own_process
        step = run.options(scheduling_strategy=here)
        task = step.remote(planned.step.kind, config, context)
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
