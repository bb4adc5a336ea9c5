"""Ray Train's trainer, without the processes that a gang of ours has no use for.

Each of them is a second or two of imports before the first step. A manager of datasets: workers read their own. One that
asks the autoscaler for machines: the gang's placement group asks already, and for no more than is missing. One that
gives back what the gang held once its controller has died: :func:`jobs.gang_scheduling.release_abandoned` does, also
for workers that had not started.
"""

from __future__ import annotations

from typing import Any

from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy


class Trainer(TorchTrainer):
    """Trains in one gang of a fixed size."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        spared = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [each for each in super()._create_default_callbacks() if not isinstance(each, spared)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Result:
        policy = _ByPlacement(self.scaling_config)
        return super()._initialize_and_run_controller(**{**arguments, "scaling_policy": policy})


class _ByPlacement(FixedScalingPolicy):
    """The size that was asked for, by its placement group alone."""

    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass
