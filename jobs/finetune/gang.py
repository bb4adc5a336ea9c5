"""A gang of workers on Ray Train: placed together, and restarted when one of them is lost.

Ray Train starts and connects the workers and reserves them in one placement group, on as few nodes as possible.
Restarts are decided here, because it does not tell a lost worker from a mistake in the config: the former is worth
another attempt, the latter never. So is the size of a gang that may shrink: Ray Train's own elasticity counts what the
cluster has, not what of it is free, and waits without end for the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray import PlacementGroupID
from ray._private.state import available_resources_per_node
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
from ray.train.v2._internal.exceptions import (
    RayTrainError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group
from torch.distributed import DistError

from jobs.finetune.config import Config
from jobs.finetune.worker import BACKENDS
from orchestrator.places import read_bytes, write_bytes
from orchestrator.step import StepError

if TYPE_CHECKING:
    from orchestrator.places import Place

Argument = TypeVar("Argument")

_GLOO = "gloo/transport"
"""What errors of gloo's connections contain: they have no type of their own."""


def run_gang(
    work: Callable[[Argument], None], argument: Argument, config: Config, records: Path, reservation: Place
) -> None:
    """Calls ``work(argument)`` in every worker, and all of them again when one is lost, until it returns.

    `work` continues from its own last checkpoint. `records` is a folder for Ray Train's own records. `reservation` is
    the file with the id, in hexadecimal, of the placement group that the gang holds: workers and later runs see it.

    Raises what `work` raised, or StepError: when the cluster does not have the gang's resources within
    ``resources.wait`` seconds, nor those of ``resources.min_workers``, or workers were lost too often.
    """
    _release_former_gang(reservation)
    os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = str(config.resources.wait)
    workers, lost = config.resources.workers, 0
    while True:
        try:
            _trainer(work, argument, config, workers, records, reservation).fit()
            return
        except TrainingFailedError as error:
            if _timed_out(error):
                workers = _fewer(config, workers)
                print(
                    f"The cluster has no more: starting with {workers} of {config.resources.workers} workers",
                    flush=True,
                )
                continue
            cause = _cause_of_loss(error)
            if lost == config.resources.retries:
                raise StepError(
                    f"resources.retries: workers were lost {lost + 1} times, the last time because {cause}; put that "
                    "right or raise it, and run the same command again: it continues from the last checkpoint"
                ) from error
            lost += 1
            workers = config.resources.workers
            attempts = config.resources.retries - lost
            print(f"Starting the gang again ({attempts} more attempts after this) because {cause}", flush=True)


def _trainer(
    work: Callable[[Argument], None],
    argument: Argument,
    config: Config,
    workers: int,
    records: Path,
    reservation: Place,
) -> TorchTrainer:
    gpus = config.resources.gpus_per_worker
    return TorchTrainer(
        _work,
        train_loop_config={"work": work, "argument": argument, "reservation": reservation},
        torch_config=TorchConfig(backend=BACKENDS["cuda" if gpus else "cpu"]),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(gpus),
            resources_per_worker=config.demands()[0],
            placement_strategy="PACK",
        ),
        run_config=RunConfig(
            name=records.name,
            storage_path=str(records.parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
        ),
    )


def _work(told: dict[str, Any]) -> None:
    if ray.train.get_context().get_world_rank() == 0:
        write_bytes(told["reservation"], get_current_placement_group().id.hex().encode())
    told["work"](told["argument"])


def _release_former_gang(reservation: Place) -> None:
    """Frees what this step's gang still holds when its coordinator was killed: Ray itself waits for the job to end."""
    if (held := read_bytes(reservation)) is not None:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(held.decode()))))


def _timed_out(error: TrainingFailedError) -> bool:
    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)


def _fewer(config: Config, workers: int) -> int:
    """How many can start in place of `workers` with what is free. Raises StepError where that is too few."""
    bundle = config.demands()[0]
    free = sum(
        min(int(node.get(name, 0) // amount) for name, amount in bundle.items())
        for node in available_resources_per_node().values()
    )
    resources = config.resources
    for count in range(min(free, workers - 1), (resources.min_workers or workers) - 1, -1):
        if config.batch_size % count == 0 and count % (resources.shard_group or count) == 0:
            return count
    raise StepError(_shortage(config))


def _cause_of_loss(error: TrainingFailedError) -> str:
    """Why a worker died, or a node while the gang started. Raises what else there was to go wrong."""
    if isinstance(error, PreemptionError):
        return "a node was preempted"
    if isinstance(error, ControllerError):
        if isinstance(error.controller_failure, WorkerGroupStartupFailedError):
            return "a worker died while the gang started"
        raise error
    failures = dict(error.worker_failures) if isinstance(error, WorkerGroupError) else {}
    for failure in failures.values():
        if isinstance(failure, StepError):
            raise failure
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
    return isinstance(failure, DistError) or (isinstance(failure, RuntimeError) and _GLOO in str(failure))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _shortage(config: Config) -> str:
    asked = " + ".join(_resources(bundle) for bundle in config.demands())
    return (
        f"resources: asked for {asked}, and did not get it within {config.resources.wait:g} seconds; the cluster has "
        f"{_resources(ray.cluster_resources())}, of which free {_resources(ray.available_resources())}: ask for less, "
        "wait longer (resources.wait), or add nodes"
    )


def _resources(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amounts.get(name, 0):g} {name}" for name in ("CPU", "GPU") if name == "CPU" or name in amounts)
