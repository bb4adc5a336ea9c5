"""How Ray Train connects the workers of a gang: as it does by itself, once each has chosen its network.

A file of its own: Ray Train's controller imports it, and is to import no more.
"""

from __future__ import annotations

from typing import Any

import ray.train
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.util import get_node_ip_address


class ConnectedTorch(TorchConfig):
    """Ray Train's process group, on the network of :mod:`jobs.finetune.network`."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(_choose, worker_group.execute_single(0, get_node_ip_address))
        super().on_start(worker_group, backend_config)


def _choose(master: str) -> None:
    from jobs.finetune.network import choose

    context = ray.train.get_context()
    choose(master, nodes=-(-context.get_world_size() // context.get_local_world_size()))
