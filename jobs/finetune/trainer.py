"""Ray Train's trainer, without three processes that a gang has no use for.

Each would import for seconds before the first step. One manages datasets: workers read their own. One asks the
autoscaler for machines: the gang's placement group does. One gives back what the gang held once its controller has
died: :func:`jobs.gang_scheduling.release_abandoned` does, also where no worker had started.
"""

from __future__ import annotations

from typing import Any

from ray.train import Result
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


class Trainer(DataParallelTrainer):
    """Trains in one gang of a fixed size."""

    def _create_default_callbacks(self) -> list[Any]:
        spared = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [each for each in super()._create_default_callbacks() if not isinstance(each, spared)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Result:
        policy = _ByPlacement(self.scaling_config)
        return super()._initialize_and_run_controller(**{**arguments, "scaling_policy": policy})


class _ByPlacement(FixedScalingPolicy):
    """Asks for its machines by the placement group alone."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass
