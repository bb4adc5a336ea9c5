"""A gang of workers on Ray Train: placed together, and restarted when one of them is lost.

Ray Train starts and connects the workers and reserves them in one placement group, on as few nodes as possible.
Restarts are decided here, because it does not tell a lost worker from a mistake in the config: the former is worth
another attempt, the latter never. Machines that were taken away have a budget of their own. So is the size of a gang
that may shrink decided here: Ray Train's own elasticity counts what the cluster has, not what of it is free, and waits
without end for the rest.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.constants import (
    ENABLE_PREEMPTION_WATCHER_ENV_VAR,
    ENABLE_PRINT_PATCH_ENV_VAR,
    HEALTH_CHECK_INTERVAL_S_ENV_VAR,
    WORKER_GROUP_START_TIMEOUT_S_ENV_VAR,
)
from ray.train.v2._internal.exceptions import (
    RayTrainError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError
from ray.util.placement_group import get_current_placement_group, placement_group_table

from jobs.cluster_state import amounts, gone, leaving, machines, shortage, starting
from jobs.finetune.assignment import BACKENDS
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.connecting import GangConfig, packed, raise_what_was_before
from jobs.finetune.faults import is_hardware_fault, is_out_of_memory, out_of_memory_somewhere
from jobs.finetune.holding import held
from jobs.finetune.leaving import Leaving
from jobs.finetune.trainer import Trainer
from jobs.gang_scheduling import will_fit
from orchestrator.job.errors import StepError
from orchestrator.job.retries import Cause, Losses, OutOfRetries, field_of
from orchestrator.job.usage import Held, Meter
from orchestrator.store.errors import StoreError, no_space
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

Argument = TypeVar("Argument")

_GLOO = "gloo/transport"
"""What errors of gloo's connections contain: they have no type of their own."""


STARTS_WITHIN = 3600.0
"""Seconds in which a machine that was asked for is there, whatever `resources.wait` says: a large one boots, and gets
what it needs installed, for longer than ten minutes. One that takes longer hangs."""


LOOKS_EVERY = 0.5
"""Seconds between Ray Train's looks at the workers: from when one is lost, or all are done, others hold their cards."""


def run_gang(
    work: Callable[[Argument], None],
    argument: Argument,
    config: FinetuneConfig,
    name: str,
    records: Path,
    reservation: StoragePath,
    tell: Callable[[Mapping[str, int], str], None] = lambda counts, reason: None,
    hold: Callable[[Held], None] = lambda holding: None,
    before: Callable[[Argument], None] | None = None,
) -> None:
    """Calls ``work(argument)`` in every worker, and all of them again when one is lost, until it returns.

    `work` continues from its own last checkpoint, and may raise `Leaving` to be started elsewhere. `name` is what the
    names of the gang's placement groups begin with, and no others: what one that was killed left under it is given back
    first. `records` is a folder for Ray Train's own records. `reservation` is the file that says which machines the
    gang is on, by their ids; its first worker writes it. `tell` is told of every loss: how many by cause, and why the
    last; `hold`, every second, of what is held. ``before(argument)`` is called by the first worker before the workers
    are connected.

    Raises what `work` raised; StepError, when the cluster does not have the gang's resources within ``resources.wait``
    seconds, nor those of ``resources.min_workers``, and no machine is on its way; or OutOfRetries, when workers were
    lost too often.
    """
    os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = str(config.resources.wait)
    os.environ[HEALTH_CHECK_INTERVAL_S_ENV_VAR] = str(LOOKS_EVERY)
    os.environ[ENABLE_PREEMPTION_WATCHER_ENV_VAR] = "0"  # workers look themselves: jobs.finetune.leaving
    os.environ[ENABLE_PRINT_PATCH_ENV_VAR] = "0"  # what workers print would be in the step's logs twice
    workers, losses, meter = config.resources.workers, Losses(config.resources.retries), Meter(config.machine)
    waited = 0.0
    while True:
        try:
            storage_of(reservation).remove()
            with held(name, meter, hold, config.devices):
                _trainer(work, argument, config, workers, name, records, reservation, before).fit()
            return
        except TrainingFailedError as error:
            if _timed_out(error):
                waited += config.resources.wait
                workers = _enough_or_coming(config, workers, waited)
                continue
            waited = 0.0
            cause, reason = _loss(error, _machines(reservation))
            again = losses.count(cause)
            tell(losses.by_cause(), f"{cause}: {reason}")
            if not again:
                raise OutOfRetries(
                    cause,
                    f"resources.retries.{field_of(cause)}: workers were lost {losses.counts[cause]} times, the last "
                    f"time because {reason}; put that right or raise it, and run the same command again: it continues "
                    "from the last checkpoint",
                ) from error
            workers = config.resources.workers
            print(f"Starting the gang again ({losses.so_far(cause)}) because {reason}", flush=True)
            if cause == "infrastructure":
                time.sleep(losses.delay(cause))


def _trainer(
    work: Callable[[Argument], None],
    argument: Argument,
    config: FinetuneConfig,
    workers: int,
    name: str,
    records: Path,
    reservation: StoragePath,
    before: Callable[[Argument], None] | None = None,
) -> Trainer:
    gpus = config.resources.gpus_per_worker
    first = None if before is None else packed(partial(before, argument))
    return Trainer(
        partial(_work, work, argument, reservation),
        name=name,
        backend_config=GangConfig(backend=BACKENDS["cuda" if gpus else "cpu"], before=first),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(gpus),
            resources_per_worker=config.demands()[0],
            placement_strategy="PACK",
        ),
        run_config=RunConfig(
            name=records.name,
            storage_path=str(records.parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )


def _work(work: Callable[[Argument], None], argument: Argument, reservation: StoragePath) -> None:
    if ray.train.get_context().get_world_rank() == 0:
        table = placement_group_table(get_current_placement_group())
        machines_of_gang = sorted(set(table["bundles_to_node_id"].values()))
        storage_of(reservation).write_bytes(json.dumps({"machines": machines_of_gang}).encode())
    raise_what_was_before()
    work(argument)


def _machines(reservation: StoragePath) -> list[str]:
    """Those of the gang that ran last, by what its rank 0 said of them; none where it did not come to run."""
    record = storage_of(reservation).read_bytes()
    return [] if record is None else list(json.loads(record)["machines"])


def _timed_out(error: TrainingFailedError) -> bool:
    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)


def _enough_or_coming(config: FinetuneConfig, workers: int, waited: float) -> int:
    """As :func:`_enough`, and the same again while the autoscaler starts machines, but for `STARTS_WITHIN` seconds."""
    try:
        return _enough(config, workers)
    except StepError:
        coming = starting()
        if not coming or waited >= STARTS_WITHIN:
            raise
        kinds = " and ".join(f"{count} x {kind}" for kind, count in Counter(coming).items())
        print(f"Still waiting for {workers} x ({amounts(config.demands()[0])}): {kinds} start", flush=True)
        return workers


def _enough(config: FinetuneConfig, workers: int) -> int:
    """How many to ask for when `workers` were waited for in vain: as many as can start with what is free, else the same
    again where it is other steps that hold the rest. Raises StepError where neither will do."""
    bundle = config.demands()[0]
    free = sum(machine.holds(bundle) for machine in machines())
    resources = config.resources
    for count in range(min(free, workers), (resources.min_workers or workers) - 1, -1):
        if config.batch_size % count == 0 and count % (resources.shard_group or count) == 0:
            if count < workers:
                print(f"The cluster has no more: starting with {count} of {resources.workers} workers", flush=True)
            return count
    if will_fit(bundle, workers):
        print(f"Still waiting for {workers} x ({amounts(bundle)}): other steps hold it", flush=True)
        return workers
    settings = "resources.workers, min_workers or what each of them holds"
    raise StepError(shortage(bundle, resources.workers, resources.wait, settings))


def _loss(error: TrainingFailedError, places: Sequence[str]) -> tuple[Cause, str]:
    """By what a worker was lost, and why, in words; `places` are the machines that the gang was on.

    Raises what else there was to go wrong.
    """
    failures = dict(error.worker_failures) if isinstance(error, WorkerGroupError) else {}
    if any(isinstance(failure, Leaving) for failure in failures.values()):
        return "preempted", "a machine is about to go; a checkpoint of the last step was saved"
    reason = _reason(error, failures)
    taken = any(gone(place) or place in leaving() for place in places)
    return "preempted" if taken else "infrastructure", reason


def _reason(error: TrainingFailedError, failures: Mapping[int, Exception]) -> str:
    """Why a worker died, or a machine while the gang started. Raises what else there was to go wrong."""
    if isinstance(error, ControllerError) and not failures:
        if isinstance(error.controller_failure, WorkerGroupStartupFailedError):
            return "a worker died while the gang started"
        raise error
    for failure in failures.values():
        if isinstance(failure, StepError | StoreError) or no_space(failure) is not None:
            raise failure
        if is_out_of_memory(failure):
            raise out_of_memory_somewhere(failure) from error
    # The others lose their connections to the worker whose card failed, or wait for it.
    for rank, failure in failures.items():
        if is_hardware_fault(failure):
            return f"the card of worker {rank} failed: {_one_line(failure)}"
    # What Ray Train itself noticed, such as a dead process, derives from RayTrainError; the rest was raised in workers.
    # When one of them died, what the others raised is the consequence: their connections to it closed.
    for rank, failure in failures.items():
        if isinstance(failure, RayTrainError):
            cause = failure.health_check_failure if isinstance(failure, WorkerHealthCheckFailedError) else failure
            return f"worker {rank} was lost: {_one_line(cause)}"
    # That of a node may be noticed by nobody else for half a minute.
    if failures and all(_disconnected(failure) for failure in failures.values()):
        return f"worker {min(failures)} lost its connection to another: {_one_line(failures[min(failures)])}"
    raise error


def _disconnected(failure: Exception) -> bool:
    """Whether a worker failed because it could not reach another, as torch.distributed says it."""
    from torch.distributed import DistError

    return isinstance(failure, DistError) or (isinstance(failure, RuntimeError) and _GLOO in str(failure))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
