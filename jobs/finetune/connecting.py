"""How Ray Train connects the workers of a gang, and what the first of them does before.

Others wait for each other in operations that have a time limit, so what takes long and is one worker's affair, such as
to download a model, is done before they are connected. Then each chooses its network, and they connect as they do by
themselves. Ray Train's controller reads this too, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray.train
from ray import cloudpickle
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.util import get_node_ip_address


@dataclass
class GangTorchConfig(TorchConfig):
    """Ray Train's own, on the network of :mod:`jobs.finetune.network`, after what :func:`packed` has packed was called
    by the first worker."""

    before: bytes | None = None

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


def packed(function: Callable[[], None]) -> bytes:
    """`function` for a :class:`GangTorchConfig`: only the worker unpacks it, and imports what it needs."""
    return cloudpickle.dumps(function)


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: GangTorchConfig) -> None:
        if backend_config.before is not None:
            worker_group.execute_single(0, _call, backend_config.before)
        worker_group.execute(_choose, worker_group.execute_single(0, get_node_ip_address))
        super().on_start(worker_group, backend_config)


_before: Future[None] | None = None
"""Of this process, where it is the first worker's."""


def _call(function: bytes) -> None:
    global _before
    with ThreadPoolExecutor(1) as thread:
        _before = thread.submit(cloudpickle.loads(function))


def raise_what_was_before() -> None:
    """Raises, in the first worker, what it raised before it was connected. To be called first thing by all.

    Not raised there and then: Ray Train would end the gang's controller and leave its resources held.
    """
    if _before is not None:
        _before.result()


def _choose(master: str) -> None:
    from jobs.finetune.network import choose

    context = ray.train.get_context()
    choose(master, nodes=-(-context.get_world_size() // context.get_local_world_size()))
