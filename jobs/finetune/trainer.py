"""Ray Train's trainer, without the processes that a gang has no use for.

Each would import for seconds before the first step. One coordinates the workers: the process of the step does. One
manages datasets: workers read their own. One asks the autoscaler for machines: the gang's placement group does. One
gives back what the gang held once its coordinator has died: who started the step does, by the group's name. One looks
for machines that go: workers do (:mod:`jobs.finetune.leaving`). One lets workers wait for each other when they report:
they report to nobody, and wait by torch. Ray Train needs an actor for it, and gets one that imports nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.train import Result
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import DefaultPlacementGroupHandle, WorkerGroup, worker_group
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import placement_group


class Trainer(DataParallelTrainer):
    """Trains in one gang of a fixed size, whose placement group's name begins with `name`."""

    def __init__(self, *arguments: Any, name: str, **named: Any):
        super().__init__(*arguments, **named)
        self._name = name

    def _create_default_callbacks(self) -> list[Any]:
        spared = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [each for each in super()._create_default_callbacks() if not isinstance(each, spared)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Result:
        worker_group.SynchronizationActor = ray.remote(num_cpus=0)(_nobody())
        controller = TrainController(**{**arguments, "scaling_policy": _ByPlacement(self.scaling_config)})
        controller.worker_group_cls = _named(self._name)
        asyncio.run(controller.run())
        return controller.get_result()


class _ByPlacement(FixedScalingPolicy):
    """Asks for its machines by the placement group alone."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


def _nobody() -> type:
    """A class that Ray hands on as it is: of one that a module has, the actor's process would import the module."""

    class Nobody:
        def __init__(self, **settings: Any):
            pass

    return Nobody


def _named(name: str) -> type[WorkerGroup]:
    class Workers(WorkerGroup):
        """Coordinated by a process that need not be an actor of Ray's; known by the name of its placement group."""

        def _create_placement_group(
            self, scaling_config: Any, worker_group_context: Any
        ) -> DefaultPlacementGroupHandle:
            bundles = [worker_group_context.resources_per_worker] * worker_group_context.num_workers
            strategy = worker_group_context.placement_strategy
            return DefaultPlacementGroupHandle(placement_group(bundles, strategy, f"{name}-{uuid.uuid4().hex[:8]}"))

        def _init_train_context_on_workers(
            self, workers: Sequence[Any], sync_actor: Any, train_context_args: Mapping[str, Sequence[Any]]
        ) -> None:
            ray.get(
                [
                    worker.actor.init_train_context.remote(
                        train_run_context=self._train_run_context,
                        distributed_context=worker.distributed_context,
                        synchronization_actor=sync_actor,
                        storage_context=self._storage_context,
                        worker_callbacks=self._worker_callbacks_to_propagate,
                        controller_actor=None,
                        **{argument: values[at] for argument, values in train_context_args.items()},
                    )
                    for at, worker in enumerate(workers)
                ]
            )
            self._decorate_worker_log_file_paths(workers)

    return Workers
